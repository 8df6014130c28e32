/** The tree of a template: what `parser.ts` makes and `render.ts` walks. The words are those of Jinja. */

export type Expression =
  | { kind: 'constant'; value: null | boolean | bigint | number | string }
  | { kind: 'name'; name: string }
  | { kind: 'tuple' | 'list' | 'concat'; items: Expression[] }
  | { kind: 'dict'; entries: { key: Expression; value: Expression }[] }
  | { kind: 'attribute'; object: Expression; name: string }
  | { kind: 'item'; object: Expression; key: Expression }
  | { kind: 'slice'; object: Expression; start?: Expression; stop?: Expression; step?: Expression }
  | { kind: 'call'; callee: Expression; given: GivenArguments }
  | { kind: 'filter'; input: Expression; name: string; given: GivenArguments }
  | { kind: 'test'; input: Expression; name: string; given: GivenArguments }
  | { kind: 'not' | 'negative' | 'positive'; operand: Expression }
  | { kind: 'and' | 'or'; left: Expression; right: Expression }
  | { kind: 'binary'; operator: BinaryOperator; left: Expression; right: Expression }
  | { kind: 'compare'; first: Expression; rest: { operator: CompareOperator; operand: Expression }[] }
  | { kind: 'choice'; test: Expression; chosen: Expression; otherwise?: Expression };

export type BinaryOperator = '+' | '-' | '*' | '/' | '//' | '%' | '**';
export type CompareOperator = '==' | '!=' | '<' | '<=' | '>' | '>=' | 'in' | 'not in';

export interface GivenArguments {
  positional: Expression[];
  named: { name: string; value: Expression }[];
  /** After one star. */
  list?: Expression;
  /** After two stars. */
  dict?: Expression;
}

export const NO_ARGUMENTS: GivenArguments = { positional: [], named: [] };

/** What can stand left of `=` or between `for` and `in`. */
export type Target =
  | { kind: 'name'; name: string }
  | { kind: 'field'; object: string; name: string }
  | { kind: 'tuple'; items: Target[] };

export interface Parameter {
  name: string;
  standard?: Expression;
}

/** A filter without its input, for `set` and `filter` blocks. */
export interface FilterCall {
  name: string;
  given: GivenArguments;
}

export type Statement =
  | { kind: 'text'; text: string }
  | { kind: 'print'; value: Expression }
  | { kind: 'if'; branches: { test: Expression; body: Statement[] }[]; otherwise: Statement[] }
  | {
      kind: 'for';
      target: Target;
      over: Expression;
      filter?: Expression;
      recursive: boolean;
      body: Statement[];
      otherwise: Statement[];
    }
  | { kind: 'break' | 'continue' }
  | { kind: 'set'; target: Target; value: Expression }
  | { kind: 'set-block'; target: Target; filters: FilterCall[]; body: Statement[] }
  | { kind: 'macro'; name: string; parameters: Parameter[]; body: Statement[]; uses: ReadonlySet<string> }
  | {
      kind: 'call';
      call: Extract<Expression, { kind: 'call' }>;
      parameters: Parameter[];
      body: Statement[];
      uses: ReadonlySet<string>;
    }
  | { kind: 'filter-block'; filters: FilterCall[]; body: Statement[] }
  | { kind: 'with'; bindings: { target: Target; value: Expression }[]; body: Statement[] }
  | { kind: 'generation'; body: Statement[] }
  | { kind: 'refused'; why: string };
