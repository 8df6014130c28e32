/**
 * Walks the tree of a template and writes its text.
 *
 * A scope is one block of Python that Jinja would write: the template, each turn of a loop, a macro, a call block, a
 * `with`, a captured block. `if` opens none. A name is looked up from the innermost scope outwards, then among what
 * the caller gave; `set` writes to the innermost scope, so that nothing leaves a loop but through a namespace.
 *
 * The text between `generation` and `endgeneration` is what the assistant wrote. Its place is counted as transformers
 * does: from the length, in code points, of what the template itself has written so far. Inside a macro or a captured
 * block this is where the block stands, not where the text lies in it.
 */
import type { Expression, FilterCall, GivenArguments, Parameter, Statement, Target } from './ast.ts';
import { TemplateError } from './errors.ts';
import { runFilter } from './filters.ts';
import { makeGlobals } from './globals.ts';
import { attribute, binary, call, compareWith, item, keepSign, negate, slice } from './operators.ts';
import type { Template } from './parser.ts';
import { runTest } from './tests.ts';
import {
  NAMESPACE,
  PythonObject,
  Tuple,
  Undefined,
  isEqual,
  isTrue,
  iterate,
  keyOf,
  listOf,
  textLength,
  toText,
  typeName,
  type Arguments,
  type Value,
} from './values.ts';

/** Deeper than any template calls itself; keeps hostile ones from the end of the stack. */
const MAX_CALLS = 150;
/** Turns of loops, with their filters: far more than any conversation needs, and soon at their end. */
const MAX_TURNS = 5_000_000;
/** Characters; far longer than any context. */
const MAX_OUTPUT = 1 << 27;

export interface Output {
  text: string;
  /** Start and end of each generation block, in code points of the text. */
  spans: [number, number][];
}

interface Scope {
  names: Map<string, Value>;
  outer: Scope | undefined;
}

/** Where text goes. Only what is written to the template itself is counted. */
interface Sink {
  parts: string[];
}

type Flow = 'on' | 'break' | 'continue';

/** Throws TemplateError, RaisedError where the template itself refuses. */
export function renderTemplate(template: Template, variables: ReadonlyMap<string, Value>, now: Date): Output {
  const main: Sink = { parts: [] };
  const spans: [number, number][] = [];
  let written = 0;
  let produced = 0;
  let calls = 0;
  let turns = 0;
  const given: Scope = { names: new Map([...makeGlobals(now), ...variables]), outer: undefined };
  runBody(template.body, { names: new Map(), outer: given }, main);
  return { text: main.parts.join(''), spans };

  function write(text: string, sink: Sink): void {
    sink.parts.push(text);
    produced += text.length;
    if (produced > MAX_OUTPUT) throw new TemplateError(`expected at most ${MAX_OUTPUT} characters, got more`);
    if (sink === main && template.hasGeneration) written += textLength(text);
  }

  /** The text of statements that is not written where they stand. */
  function capture(body: readonly Statement[], scope: Scope): string {
    const sink: Sink = { parts: [] };
    runBody(body, scope, sink);
    return sink.parts.join('');
  }

  function runBody(body: readonly Statement[], scope: Scope, sink: Sink): Flow {
    for (const statement of body) {
      const flow = run(statement, scope, sink);
      if (flow !== 'on') return flow;
    }
    return 'on';
  }

  function run(statement: Statement, scope: Scope, sink: Sink): Flow {
    switch (statement.kind) {
      case 'text':
        write(statement.text, sink);
        return 'on';
      case 'print':
        write(toText(evaluate(statement.value, scope)), sink);
        return 'on';
      case 'if': {
        const branch = statement.branches.find(({ test }) => isTrue(evaluate(test, scope)));
        return runBody(branch?.body ?? statement.otherwise, scope, sink);
      }
      case 'for':
        return runFor(statement, iterate(evaluate(statement.over, scope)), scope, sink, 0);
      case 'break':
      case 'continue':
        return statement.kind;
      case 'set':
        assign(statement.target, evaluate(statement.value, scope), scope);
        return 'on';
      case 'set-block': {
        const sub: Sink = { parts: [] };
        const flow = runBody(statement.body, inside(scope), sub);
        if (flow !== 'on') return flow;
        assign(statement.target, applyFilters(sub.parts.join(''), statement.filters, scope), scope);
        return 'on';
      }
      case 'filter-block': {
        const sub: Sink = { parts: [] };
        const flow = runBody(statement.body, inside(scope), sub);
        if (flow !== 'on') return flow;
        write(toText(applyFilters(sub.parts.join(''), statement.filters, scope)), sink);
        return 'on';
      }
      case 'with': {
        const own = inside(scope);
        const values = statement.bindings.map(({ value }) => evaluate(value, scope));
        for (const [i, { target }] of statement.bindings.entries()) assign(target, values[i] ?? null, own);
        return runBody(statement.body, own, sink);
      }
      case 'macro':
        scope.names.set(statement.name, makeMacro(statement.name, statement, scope));
        return 'on';
      case 'call': {
        const { positional, named } = giveArguments(statement.call.given, scope);
        const caller = makeMacro('caller', statement, scope);
        const callee = evaluate(statement.call.callee, scope);
        write(toText(call(callee, positional, new Map([...named, ['caller', caller]]))), sink);
        return 'on';
      }
      case 'generation': {
        const start = written;
        const text = capture(statement.body, inside(scope));
        spans.push([start, start + textLength(text)]);
        write(text, sink);
        return 'on';
      }
      case 'refused':
        throw new TemplateError(statement.why);
      default:
        return statement satisfies never;
    }
  }

  function runFor(
    statement: Extract<Statement, { kind: 'for' }>,
    over: Iterable<Value>,
    scope: Scope,
    sink: Sink,
    depth: number,
  ): Flow {
    let items = [...over];
    turns += items.length;
    if (turns > MAX_TURNS) throw new TemplateError(`expected at most ${MAX_TURNS} turns of loops, got more`);
    const { filter } = statement;
    if (filter !== undefined) {
      items = items.filter((value) => {
        const own = inside(scope);
        assign(statement.target, value, own);
        return isTrue(evaluate(filter, own));
      });
    }
    const loop = makeLoop(items, depth, statement.recursive ? recurse : undefined);
    let isFinished = false;
    for (const [i, value] of items.entries()) {
      loop.move(i);
      const own = inside(scope);
      own.names.set('loop', loop.object);
      assign(statement.target, value, own);
      const flow = runBody(statement.body, own, sink);
      if (flow === 'break') break;
      // Jinja runs `else` when no turn came to its end.
      if (flow === 'on') isFinished = true;
    }
    return isFinished ? 'on' : runBody(statement.otherwise, inside(scope), sink);

    function recurse(deeper: Value): Value {
      return limited(() => {
        const sub: Sink = { parts: [] };
        runFor(statement, iterate(deeper), scope, sub, depth + 1);
        return sub.parts.join('');
      });
    }
  }

  function limited<T>(work: () => T): T {
    calls += 1;
    if (calls > MAX_CALLS) throw new TemplateError('maximum recursion depth exceeded');
    try {
      return work();
    } finally {
      calls -= 1;
    }
  }

  function applyFilters(text: string, filters: readonly FilterCall[], scope: Scope): Value {
    return filters.reduce<Value>(
      (value, { name, given: own }) => runFilter(name, value, giveArguments(own, scope)),
      text,
    );
  }

  function makeMacro(
    name: string,
    macro: { parameters: readonly Parameter[]; body: readonly Statement[]; uses: ReadonlySet<string> },
    scope: Scope,
  ): PythonObject {
    const names = macro.parameters.map((parameter) => parameter.name);
    const invoke = ({ positional, named }: Arguments): Value =>
      limited(() => {
        const own = inside(scope);
        const rest = new Map(named);
        for (const [i, parameter] of macro.parameters.entries()) {
          let value = positional[i];
          if (value === undefined) {
            value = rest.get(parameter.name);
            rest.delete(parameter.name);
          }
          // A default may name the parameters before it.
          if (value === undefined && parameter.standard !== undefined)
            value = evaluate(parameter.standard, own);
          const missing = new Undefined(`parameter '${parameter.name}' was not provided`);
          own.names.set(parameter.name, value === undefined ? missing : value);
        }
        if (macro.uses.has('caller') && !names.includes('caller')) {
          own.names.set('caller', rest.get('caller') ?? new Undefined('No caller defined'));
          rest.delete('caller');
        }
        const [unknown] = rest.keys();
        if (macro.uses.has('kwargs')) own.names.set('kwargs', new Map<Value, Value>(rest));
        else if (unknown !== undefined) {
          throw new TemplateError(`macro '${name}' takes no keyword argument '${unknown}'`);
        }
        if (macro.uses.has('varargs')) own.names.set('varargs', new Tuple(positional.slice(names.length)));
        else if (positional.length > names.length) {
          throw new TemplateError(`macro '${name}' takes not more than ${names.length} argument(s)`);
        }
        return capture(macro.body, own);
      });
    const attributes = new Map<string, Value>([
      ['name', name],
      ['arguments', new Tuple(names)],
    ]);
    return new PythonObject(`Macro '${name}'`, invoke, attributes);
  }

  function giveArguments(own: GivenArguments, scope: Scope): Arguments {
    const positional = own.positional.map((value) => evaluate(value, scope));
    const named = new Map(own.named.map(({ name, value }) => [name, evaluate(value, scope)]));
    if (own.list) positional.push(...iterate(evaluate(own.list, scope)));
    if (own.dict) {
      const dict = evaluate(own.dict, scope);
      if (!(dict instanceof Map)) {
        throw new TemplateError(`argument after ** must be a mapping, not ${typeName(dict)}`);
      }
      for (const [key, value] of dict) {
        if (typeof key !== 'string') throw new TemplateError('keywords must be strings');
        if (named.has(key)) throw new TemplateError(`got multiple values for keyword argument '${key}'`);
        named.set(key, value);
      }
    }
    return { positional, named };
  }

  function evaluate(expression: Expression, scope: Scope): Value {
    switch (expression.kind) {
      case 'constant':
        return expression.value;
      case 'name':
        return lookUp(expression.name, scope);
      case 'list':
        return expression.items.map((each) => evaluate(each, scope));
      case 'tuple':
        return new Tuple(expression.items.map((each) => evaluate(each, scope)));
      case 'concat':
        return expression.items.map((each) => toText(evaluate(each, scope))).join('');
      case 'dict':
        return new Map(
          expression.entries.map(({ key, value }) => [keyOf(evaluate(key, scope)), evaluate(value, scope)]),
        );
      case 'attribute':
        return attribute(evaluate(expression.object, scope), expression.name);
      case 'item':
        return item(evaluate(expression.object, scope), evaluate(expression.key, scope));
      case 'slice': {
        const { object, start, stop, step } = expression;
        const bound = (each: Expression | undefined): Value | undefined => each && evaluate(each, scope);
        return slice(evaluate(object, scope), bound(start), bound(stop), bound(step));
      }
      case 'call': {
        const callee = evaluate(expression.callee, scope);
        const { positional, named } = giveArguments(expression.given, scope);
        return call(callee, positional, named);
      }
      case 'filter':
        return runFilter(
          expression.name,
          evaluate(expression.input, scope),
          giveArguments(expression.given, scope),
        );
      case 'test':
        return runTest(
          expression.name,
          evaluate(expression.input, scope),
          giveArguments(expression.given, scope),
        );
      case 'not':
        return !isTrue(evaluate(expression.operand, scope));
      case 'negative':
        return negate(evaluate(expression.operand, scope));
      case 'positive':
        return keepSign(evaluate(expression.operand, scope));
      case 'and': {
        const left = evaluate(expression.left, scope);
        return isTrue(left) ? evaluate(expression.right, scope) : left;
      }
      case 'or': {
        const left = evaluate(expression.left, scope);
        return isTrue(left) ? left : evaluate(expression.right, scope);
      }
      case 'binary':
        return binary(
          expression.operator,
          evaluate(expression.left, scope),
          evaluate(expression.right, scope),
        );
      case 'compare': {
        let left = evaluate(expression.first, scope);
        for (const { operator, operand } of expression.rest) {
          const right = evaluate(operand, scope);
          if (!compareWith(operator, left, right)) return false;
          left = right;
        }
        return true;
      }
      case 'choice':
        if (isTrue(evaluate(expression.test, scope))) return evaluate(expression.chosen, scope);
        if (expression.otherwise) return evaluate(expression.otherwise, scope);
        return new Undefined('the inline if-expression evaluated to false and no else section was defined.');
      default:
        return expression satisfies never;
    }
  }
}

function inside(scope: Scope): Scope {
  return { names: new Map(), outer: scope };
}

function lookUp(name: string, scope: Scope): Value {
  for (let at: Scope | undefined = scope; at; at = at.outer) {
    const value = at.names.get(name);
    if (value !== undefined) return value;
  }
  return new Undefined(`'${name}' is undefined`);
}

function assign(target: Target, value: Value, scope: Scope): void {
  switch (target.kind) {
    case 'name':
      scope.names.set(target.name, value);
      return;
    case 'field': {
      const object = lookUp(target.object, scope);
      if (!(object instanceof PythonObject) || object.typeName !== NAMESPACE) {
        throw new TemplateError('cannot assign attribute on non-namespace object');
      }
      object.attributes.set(target.name, value);
      return;
    }
    case 'tuple': {
      const values = listOf(value);
      if (values.length !== target.items.length) {
        throw new TemplateError(`expected ${target.items.length} values to unpack, got ${values.length}`);
      }
      for (const [i, each] of target.items.entries()) assign(each, values[i] ?? null, scope);
      return;
    }
    default:
      target satisfies never;
  }
}

/** The `loop` of a for, and how it goes to the next turn. */
function makeLoop(
  items: readonly Value[],
  depth: number,
  recurse: ((deeper: Value) => Value) | undefined,
): { object: PythonObject; move(i: number): void } {
  let at = 0;
  let lastSeen: Value[] | undefined;
  const run =
    recurse &&
    (({ positional: [deeper] }: Arguments): Value =>
      recurse(deeper ?? new Undefined('loop: no items given')));
  const object = new PythonObject('LoopContext', run);
  const { attributes } = object;
  attributes.set(
    'cycle',
    new PythonObject('method', ({ positional }) => {
      if (positional.length === 0) throw new TemplateError('no items for cycling given');
      return positional[at % positional.length] ?? null;
    }),
  );
  attributes.set(
    'changed',
    new PythonObject('method', ({ positional }) => {
      const isSame = lastSeen !== undefined && isEqual(lastSeen, [...positional]);
      lastSeen = [...positional];
      return !isSame;
    }),
  );
  const { length } = items;
  const move = (i: number): void => {
    at = i;
    attributes.set('index', BigInt(i + 1));
    attributes.set('index0', BigInt(i));
    attributes.set('revindex', BigInt(length - i));
    attributes.set('revindex0', BigInt(length - i - 1));
    attributes.set('first', i === 0);
    attributes.set('last', i === length - 1);
    attributes.set('length', BigInt(length));
    attributes.set('depth', BigInt(depth + 1));
    attributes.set('depth0', BigInt(depth));
    attributes.set('previtem', i > 0 ? (items[i - 1] ?? null) : new Undefined('there is no previous item'));
    attributes.set(
      'nextitem',
      i + 1 < length ? (items[i + 1] ?? null) : new Undefined('there is no next item'),
    );
  };
  return { object, move };
}
