/**
 * Tokens to the tree of a template: Jinja's grammar by recursive descent, one function for each rule.
 *
 * Beside Jinja's own statements it knows what transformers adds: `generation`, `break` and `continue`. A template
 * that stands alone has no loader, so `include`, `import` and `extends` are errors when they are reached. `block` and
 * `autoescape` are refused: no chat template has them.
 *
 * Source: Jinja's documentation (template designer: list of control structures, expressions).
 */
import {
  NO_ARGUMENTS,
  type CompareOperator,
  type Expression,
  type FilterCall,
  type GivenArguments,
  type Parameter,
  type Statement,
  type Target,
} from './ast.ts';
import { TemplateError } from './errors.ts';
import { isFilter } from './filter-names.ts';
import { tokenize, type Token, type TokenType } from './lexer.ts';
import { isTest } from './tests.ts';

export interface Template {
  body: Statement[];
  hasGeneration: boolean;
}

const CONSTANTS: Readonly<Record<string, null | boolean>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
};
const COMPARISONS: readonly string[] = ['==', '!=', '<', '<=', '>', '>='] satisfies CompareOperator[];
const LOADING = new Set(['include', 'import', 'from', 'extends']);
/** Deeper than any template; keeps hostile ones from the end of the stack. */
const MAX_DEPTH = 200;

/** Throws TemplateError with the line. */
export function parseTemplate(source: string): Template {
  const tokens = tokenize(source);
  let at = 0;
  let hasGeneration = false;
  let depth = 0;
  /** How many loops `break` could leave here. */
  let loops = 0;
  /** Inside an `if`, an unknown filter or test is an error only when it is reached. */
  let isOptional = false;
  /** Filters and tests that do not exist and would be reached. */
  const unknown: string[] = [];
  /** Names that each open macro or call block reads, which tells whether it takes further arguments. */
  const reading: Set<string>[] = [];

  const peek = (ahead = 0): Token => tokens[Math.min(at + ahead, tokens.length - 1)] as Token;
  const next = (): Token => {
    const token = peek();
    at += 1;
    return token;
  };
  const show = (token: Token): string => (token.type === 'end' ? 'the end of the template' : token.value);
  const fail = (what: string): never => {
    throw new TemplateError(`line ${peek().line}: ${what}`);
  };
  const is = (type: TokenType, value?: string): boolean =>
    peek().type === type && (value === undefined || peek().value === value);
  const isSign = (value: string): boolean => is('operator', value);
  const isWord = (value: string): boolean => is('name', value);
  const accept = (type: TokenType, value?: string): boolean => {
    if (!is(type, value)) return false;
    at += 1;
    return true;
  };
  const expect = (type: TokenType, value?: string): Token =>
    is(type, value) ? next() : fail(`expected ${value ?? type}, got ${show(peek())}`);
  const nested = <T>(parse: () => T): T => {
    depth += 1;
    if (depth > MAX_DEPTH) fail(`expected at most ${MAX_DEPTH} levels, got more`);
    try {
      return parse();
    } finally {
      depth -= 1;
    }
  };

  const body = parseBody([]);
  if (unknown.length > 0) throw new TemplateError(`${unknown[0]}: expected one that is known`);
  return { body, hasGeneration };

  // Statements

  /** Statements up to a tag that begins with one of the names; its name is the next token. At the top: all. */
  function parseBody(ends: readonly string[]): Statement[] {
    const statements: Statement[] = [];
    for (;;) {
      const token = peek();
      if (token.type === 'end') {
        if (ends.length > 0) fail(`expected ${ends.join(' or ')}, got the end of the template`);
        return statements;
      }
      if (token.type === 'text') statements.push({ kind: 'text', text: next().value });
      else if (accept('begin-print')) {
        statements.push({ kind: 'print', value: parseTuple({}) });
        expect('end-print');
      } else {
        expect('begin-block');
        if (peek().type === 'name' && ends.includes(peek().value)) return statements;
        nested(() => parseStatement(statements));
        expect('end-block');
      }
    }
  }

  /** The body of a block after its tag, and the end of the block. */
  function parseBlock(end: string, inside: { loops?: number; optional?: boolean } = {}): Statement[] {
    const statements = parseUntil([end], inside);
    at += 1;
    return statements;
  }

  function parseUntil(
    ends: readonly string[],
    inside: { loops?: number; optional?: boolean } = {},
  ): Statement[] {
    const before = { loops, isOptional };
    loops = inside.loops ?? loops;
    isOptional = inside.optional ?? false;
    accept('operator', ':');
    expect('end-block');
    const statements = parseBody(ends);
    ({ loops, isOptional } = before);
    return statements;
  }

  function parseStatement(statements: Statement[]): void {
    const name = expect('name').value;
    switch (name) {
      case 'if':
        statements.push(parseIf());
        return;
      case 'for':
        statements.push(parseFor());
        return;
      case 'set':
        statements.push(parseSet());
        return;
      case 'macro': {
        const macro = expect('name').value;
        statements.push({ kind: 'macro', name: macro, ...parseCallable('endmacro') });
        return;
      }
      case 'call':
        statements.push(parseCallBlock());
        return;
      case 'filter': {
        const filters = parseFilters([parseFilterCall()]);
        statements.push({ kind: 'filter-block', filters, body: parseBlock('endfilter') });
        return;
      }
      case 'with':
        statements.push(parseWith());
        return;
      case 'generation':
        hasGeneration = true;
        statements.push({ kind: 'generation', body: parseBlock('endgeneration', { loops: 0 }) });
        return;
      case 'print':
        while (!is('end-block')) {
          statements.push({ kind: 'print', value: parseExpression() });
          if (!is('end-block')) expect('operator', ',');
        }
        return;
      case 'break':
      case 'continue':
        if (loops === 0) fail(`expected ${name} inside a for, got it outside`);
        statements.push({ kind: name });
        return;
      default:
        if (!LOADING.has(name)) fail(`expected a statement of Jinja, got ${name}`);
        while (!is('end-block') && !is('end')) at += 1;
        statements.push({
          kind: 'refused',
          why: `${name}: expected a template that stands alone, got one that loads another`,
        });
    }
  }

  function parseIf(): Statement {
    const branches: { test: Expression; body: Statement[] }[] = [];
    for (;;) {
      const outer = isOptional;
      isOptional = true;
      const test = parseTuple({ choices: false });
      isOptional = outer;
      branches.push({ test, body: parseUntil(['elif', 'else', 'endif'], { optional: true }) });
      const { value } = next();
      if (value === 'elif') continue;
      const otherwise = value === 'else' ? parseBlock('endif', { optional: true }) : [];
      return { kind: 'if', branches, otherwise };
    }
  }

  function parseFor(): Statement {
    const target = parseTarget({ end: 'in' });
    expect('name', 'in');
    const over = parseTuple({ choices: false, end: 'recursive' });
    const filter = accept('name', 'if') ? parseExpression() : undefined;
    const recursive = accept('name', 'recursive');
    const inside = parseUntil(['endfor', 'else'], { loops: loops + 1 });
    const otherwise = next().value === 'else' ? parseBlock('endfor') : [];
    return {
      kind: 'for',
      target,
      over,
      ...(filter === undefined ? {} : { filter }),
      recursive,
      body: inside,
      otherwise,
    };
  }

  function parseSet(): Statement {
    const target = parseTarget({ fields: true });
    if (accept('operator', '=')) return { kind: 'set', target, value: parseTuple({}) };
    const filters = parseFilters([]);
    return { kind: 'set-block', target, filters, body: parseBlock('endset') };
  }

  function parseWith(): Statement {
    const bindings: { target: Target; value: Expression }[] = [];
    while (!is('end-block')) {
      if (bindings.length > 0) expect('operator', ',');
      const target = parseTarget({});
      expect('operator', '=');
      bindings.push({ target, value: parseExpression() });
    }
    return { kind: 'with', bindings, body: parseBlock('endwith') };
  }

  function parseCallBlock(): Statement {
    const parameters = isSign('(') ? parseParameters() : [];
    const call = parseExpression();
    if (call.kind !== 'call') return fail('expected a call, got another expression');
    const uses = new Set<string>();
    reading.push(uses);
    const inside = parseBlock('endcall', { loops: 0 });
    reading.pop();
    return { kind: 'call', call, parameters, body: inside, uses };
  }

  function parseCallable(end: string): {
    parameters: Parameter[];
    body: Statement[];
    uses: ReadonlySet<string>;
  } {
    const uses = new Set<string>();
    reading.push(uses);
    const parameters = parseParameters();
    const inside = parseBlock(end, { loops: 0 });
    reading.pop();
    return { parameters, body: inside, uses };
  }

  function parseParameters(): Parameter[] {
    const parameters: Parameter[] = [];
    expect('operator', '(');
    while (!isSign(')')) {
      if (parameters.length > 0) expect('operator', ',');
      const name = parseAssignedName();
      if (parameters.some((other) => other.name === name))
        fail(`expected each parameter once, got ${name} twice`);
      if (accept('operator', '=')) parameters.push({ name, standard: parseExpression() });
      else if (parameters.at(-1)?.standard !== undefined) {
        fail(`expected a default for ${name}, as its neighbour has, got none`);
      } else parameters.push({ name });
    }
    expect('operator', ')');
    return parameters;
  }

  function parseAssignedName(): string {
    const name = expect('name').value;
    return Object.hasOwn(CONSTANTS, name) ? fail(`expected a name, got ${name}`) : name;
  }

  function parseTarget(options: { end?: string; fields?: boolean }): Target {
    const items: Target[] = [];
    let isTuple = false;
    do {
      if (items.length > 0 && (is('end-block') || isSign(')') || isWord(options.end ?? ''))) break;
      if (accept('operator', '(')) {
        items.push(parseTarget({}));
        expect('operator', ')');
      } else {
        const name = parseAssignedName();
        if (options.fields === true && accept('operator', '.')) {
          for (const set of reading) set.add(name);
          items.push({ kind: 'field', object: name, name: expect('name').value });
        } else items.push({ kind: 'name', name });
      }
      isTuple ||= isSign(',');
    } while (accept('operator', ','));
    const [only] = items;
    return isTuple || only === undefined ? { kind: 'tuple', items } : only;
  }

  // Expressions, from the loosest binding to the tightest

  /** One expression, or several with commas between: a tuple. `choices`: whether `a if b else c` is meant here. */
  function parseTuple(options: { choices?: boolean; end?: string; parenthesized?: boolean }): Expression {
    const items: Expression[] = [];
    let isTuple = false;
    const ends = (): boolean =>
      is('end-print') || is('end-block') || isSign(')') || isWord(options.end ?? '');
    for (;;) {
      if (items.length > 0) expect('operator', ',');
      if (ends()) break;
      items.push(options.choices === false ? parseOr() : parseExpression());
      if (!isSign(',')) break;
      isTuple = true;
    }
    const [only] = items;
    if (!isTuple && only !== undefined) return only;
    if (!isTuple && options.parenthesized !== true) fail(`expected an expression, got ${show(peek())}`);
    return { kind: 'tuple', items };
  }

  function parseExpression(): Expression {
    return nested(() => {
      const known = unknown.length;
      let expression = parseOr();
      const isChoice = isWord('if');
      while (accept('name', 'if')) {
        const test = parseOr();
        const otherwise = accept('name', 'else') ? parseExpression() : undefined;
        expression = {
          kind: 'choice',
          test,
          chosen: expression,
          ...(otherwise === undefined ? {} : { otherwise }),
        };
      }
      // What stands in a choice may never be reached.
      if (isChoice) unknown.length = known;
      return expression;
    });
  }

  function parseOr(): Expression {
    let left = parseAnd();
    while (accept('name', 'or')) left = { kind: 'or', left, right: parseAnd() };
    return left;
  }

  function parseAnd(): Expression {
    let left = parseNot();
    while (accept('name', 'and')) left = { kind: 'and', left, right: parseNot() };
    return left;
  }

  function parseNot(): Expression {
    if (!accept('name', 'not')) return parseCompare();
    return nested(() => ({ kind: 'not', operand: parseNot() }));
  }

  function parseCompare(): Expression {
    const first = parseSum();
    const rest: { operator: CompareOperator; operand: Expression }[] = [];
    for (;;) {
      let operator: CompareOperator;
      if (peek().type === 'operator' && COMPARISONS.includes(peek().value)) {
        operator = next().value as CompareOperator;
      } else if (accept('name', 'in')) operator = 'in';
      else if (isWord('not') && peek(1).type === 'name' && peek(1).value === 'in') {
        at += 2;
        operator = 'not in';
      } else break;
      rest.push({ operator, operand: parseSum() });
    }
    return rest.length === 0 ? first : { kind: 'compare', first, rest };
  }

  function parseSum(): Expression {
    let left = parseConcat();
    while (isSign('+') || isSign('-')) {
      const operator = next().value as '+' | '-';
      left = { kind: 'binary', operator, left, right: parseConcat() };
    }
    return left;
  }

  function parseConcat(): Expression {
    const first = parseProduct();
    const items = [first];
    while (accept('operator', '~')) items.push(parseProduct());
    return items.length === 1 ? first : { kind: 'concat', items };
  }

  function parseProduct(): Expression {
    let left = parsePower();
    while (isSign('*') || isSign('/') || isSign('//') || isSign('%')) {
      const operator = next().value as '*' | '/' | '//' | '%';
      left = { kind: 'binary', operator, left, right: parsePower() };
    }
    return left;
  }

  /** From left to right, unlike Python's. */
  function parsePower(): Expression {
    let left = parseUnary(true);
    while (accept('operator', '**')) left = { kind: 'binary', operator: '**', left, right: parseUnary(true) };
    return left;
  }

  function parseUnary(withFilters: boolean): Expression {
    let expression: Expression;
    if (accept('operator', '-'))
      expression = nested(() => ({ kind: 'negative', operand: parseUnary(false) }));
    else if (accept('operator', '+')) {
      expression = nested(() => ({ kind: 'positive', operand: parseUnary(false) }));
    } else expression = parsePrimary();
    expression = parsePostfix(expression);
    return withFilters ? parseFiltersAndTests(expression) : expression;
  }

  function parsePrimary(): Expression {
    const token = next();
    switch (token.type) {
      case 'name': {
        const constant = CONSTANTS[token.value];
        if (constant !== undefined && Object.hasOwn(CONSTANTS, token.value)) {
          return { kind: 'constant', value: constant };
        }
        for (const set of reading) set.add(token.value);
        return { kind: 'name', name: token.value };
      }
      case 'string': {
        let value = token.value;
        while (is('string')) value += next().value;
        return { kind: 'constant', value };
      }
      case 'int':
        return { kind: 'constant', value: BigInt(token.value) };
      case 'float':
        return { kind: 'constant', value: Number(token.value) };
      case 'operator':
        if (token.value === '(') {
          const inside = nested(() => parseTuple({ parenthesized: true }));
          expect('operator', ')');
          return inside;
        }
        if (token.value === '[') return { kind: 'list', items: parseItems(']', parseExpression) };
        if (token.value === '{') return { kind: 'dict', entries: parseItems('}', parseEntry) };
        break;
      case 'text':
      case 'begin-block':
      case 'end-block':
      case 'begin-print':
      case 'end-print':
      case 'end':
        break;
      default:
        token.type satisfies never;
    }
    at -= 1;
    return fail(`expected an expression, got ${show(token)}`);
  }

  /** What stands between commas up to a closing bracket; a comma may follow the last. */
  function parseItems<T>(end: string, parse: () => T): T[] {
    const items: T[] = [];
    while (!isSign(end)) {
      if (items.length > 0) expect('operator', ',');
      if (isSign(end)) break;
      items.push(parse());
    }
    expect('operator', end);
    return items;
  }

  function parseEntry(): { key: Expression; value: Expression } {
    const key = parseExpression();
    expect('operator', ':');
    return { key, value: parseExpression() };
  }

  function parsePostfix(start: Expression): Expression {
    let expression = start;
    for (;;) {
      if (accept('operator', '.')) {
        const token = next();
        if (token.type === 'name') expression = { kind: 'attribute', object: expression, name: token.value };
        else if (token.type === 'int') {
          const key: Expression = { kind: 'constant', value: BigInt(token.value) };
          expression = { kind: 'item', object: expression, key };
        } else fail(`expected a name or number after the dot, got ${show(token)}`);
      } else if (accept('operator', '[')) expression = parseSubscript(expression);
      else if (isSign('(')) expression = { kind: 'call', callee: expression, given: parseGiven() };
      else return expression;
    }
  }

  function parseSubscript(object: Expression): Expression {
    const keys: Expression[] = [];
    while (!isSign(']')) {
      if (keys.length > 0) expect('operator', ',');
      const start = isSign(':') ? undefined : parseExpression();
      if (!isSign(':')) {
        keys.push(start as Expression);
        continue;
      }
      const slice = parseSlice(object, start);
      if (keys.length > 0 || !isSign(']')) fail('expected one slice, got several keys');
      expect('operator', ']');
      return slice;
    }
    expect('operator', ']');
    const [only] = keys;
    return {
      kind: 'item',
      object,
      key: keys.length === 1 && only ? only : { kind: 'tuple', items: keys },
    };
  }

  function parseSlice(object: Expression, start: Expression | undefined): Expression {
    const bound = (): Expression | undefined =>
      isSign(':') || isSign(']') || isSign(',') ? undefined : parseExpression();
    expect('operator', ':');
    const stop = bound();
    const step = accept('operator', ':') ? bound() : undefined;
    return {
      kind: 'slice',
      object,
      ...(start === undefined ? {} : { start }),
      ...(stop === undefined ? {} : { stop }),
      ...(step === undefined ? {} : { step }),
    };
  }

  function parseGiven(): GivenArguments {
    const given: GivenArguments = { positional: [], named: [] };
    const ensure = (holds: boolean): void => {
      if (!holds) fail('expected arguments in the order: values, names, *list, **dict');
    };
    expect('operator', '(');
    let isFirst = true;
    while (!isSign(')')) {
      if (!isFirst) expect('operator', ',');
      if (isSign(')')) break;
      isFirst = false;
      if (accept('operator', '*')) {
        ensure(given.list === undefined && given.dict === undefined);
        given.list = parseExpression();
      } else if (accept('operator', '**')) {
        ensure(given.dict === undefined);
        given.dict = parseExpression();
      } else if (peek().type === 'name' && peek(1).type === 'operator' && peek(1).value === '=') {
        ensure(given.dict === undefined);
        const name = next().value;
        if (given.named.some((other) => other.name === name)) fail(`expected ${name} once, got it twice`);
        at += 1;
        given.named.push({ name, value: parseExpression() });
      } else {
        ensure(given.list === undefined && given.dict === undefined && given.named.length === 0);
        given.positional.push(parseExpression());
      }
    }
    expect('operator', ')');
    return given;
  }

  function parseFiltersAndTests(start: Expression): Expression {
    let expression = start;
    for (;;) {
      if (accept('operator', '|')) {
        expression = { kind: 'filter', input: expression, ...parseFilterCall() };
      } else if (accept('name', 'is')) expression = parseTest(expression);
      else if (isSign('(')) expression = { kind: 'call', callee: expression, given: parseGiven() };
      else return expression;
    }
  }

  function parseFilters(filters: FilterCall[]): FilterCall[] {
    while (accept('operator', '|')) filters.push(parseFilterCall());
    return filters;
  }

  function parseFilterCall(): FilterCall {
    const name = parseDottedName();
    const given = isSign('(') ? parseGiven() : NO_ARGUMENTS;
    if (!isFilter(name) && !isOptional) unknown.push(`line ${peek().line}: filter ${name}`);
    return { name, given };
  }

  function parseTest(input: Expression): Expression {
    const isNegated = accept('name', 'not');
    const name = parseDottedName();
    let given = NO_ARGUMENTS;
    if (isSign('(')) given = parseGiven();
    else if (isTestArgument()) {
      if (isWord('is')) fail('expected one test after a value, got a chain of them');
      given = { positional: [parsePostfix(parsePrimary())], named: [] };
    }
    if (!isTest(name) && !isOptional) unknown.push(`line ${peek().line}: test ${name}`);
    const test: Expression = { kind: 'test', input, name, given };
    return isNegated ? { kind: 'not', operand: test } : test;
  }

  /** Whether what follows the name of a test is its argument, as in `is divisibleby 3`. */
  function isTestArgument(): boolean {
    if (isWord('else') || isWord('or') || isWord('and')) return false;
    return is('name') || is('string') || is('int') || is('float') || isSign('[') || isSign('{');
  }

  function parseDottedName(): string {
    let name = expect('name').value;
    while (accept('operator', '.')) name += `.${expect('name').value}`;
    return name;
  }
}
