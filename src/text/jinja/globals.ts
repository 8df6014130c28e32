/**
 * The functions that every template sees: Jinja's globals (`lipsum` is an error when it is called), and what transformers adds,
 * `raise_exception` and `strftime_now`.
 */
import { bind } from './arguments.ts';
import { RaisedError, TemplateError } from './errors.ts';
import { formatTime } from './strftime.ts';
import {
  NAMESPACE,
  PythonObject,
  Range,
  isTrue,
  iterate,
  keyOf,
  listOf,
  toText,
  tryInt,
  typeName,
  type Arguments,
  type Value,
} from './values.ts';

/** The sandbox's limit. */
const MAX_RANGE = 100_000;

/** `now`: what strftime_now shows, in UTC. */
export function makeGlobals(now: Date): Map<string, Value> {
  const functions: Record<string, (given: Arguments) => Value> = {
    range,
    dict: (given) => dictOf('dict', given),
    namespace: (given) => {
      const entries = Array.from(dictOf('namespace', given), ([key, value]) => [toText(key), value] as const);
      return new PythonObject(NAMESPACE, undefined, new Map(entries));
    },
    cycler,
    joiner,
    lipsum: () => {
      throw new TemplateError('lipsum: expected a template whose text is not random');
    },
    raise_exception: (given) => {
      const [message = null] = bind('raise_exception', ['message'], given);
      throw new RaisedError(toText(message));
    },
    strftime_now: (given) => {
      const [format = null] = bind('strftime_now', ['format'], given);
      if (typeof format !== 'string') throw new TemplateError('strftime_now: expected a text');
      return formatTime(now, format);
    },
  };
  return new Map(Object.entries(functions).map(([name, call]) => [name, new PythonObject('function', call)]));
}

function range(given: Arguments): Value {
  const numbers = given.positional.map((value) => {
    const int = tryInt(value);
    if (int === undefined)
      throw new TemplateError(`'${typeName(value)}' object cannot be interpreted as an integer`);
    return int;
  });
  const [first, second, step = 1n] = numbers;
  if (first === undefined || numbers.length > 3 || given.named.size > 0) {
    throw new TemplateError(`range expected 1 to 3 arguments, got ${numbers.length}`);
  }
  if (step === 0n) throw new TemplateError('range() arg 3 must not be zero');
  const made = second === undefined ? new Range(0n, first, 1n) : new Range(first, second, step);
  if (made.length > MAX_RANGE)
    throw new TemplateError(`Range too big. The sandbox blocks ranges larger than ${MAX_RANGE}.`);
  return made;
}

function dictOf(what: string, given: Arguments): Map<Value, Value> {
  if (given.positional.length > 1) {
    throw new TemplateError(`${what} expected at most 1 argument, got ${given.positional.length}`);
  }
  const dict = new Map<Value, Value>();
  const [source] = given.positional;
  if (source instanceof Map) for (const [key, value] of source) dict.set(key, value);
  else if (source !== undefined) {
    for (const pair of iterate(source)) {
      const [key, value, ...rest] = listOf(pair);
      if (key === undefined || value === undefined || rest.length > 0) {
        throw new TemplateError(`${what}: expected pairs of a key and a value`);
      }
      dict.set(keyOf(key), value);
    }
  }
  for (const [name, value] of given.named) dict.set(name, value);
  return dict;
}

function cycler({ positional: items }: Arguments): Value {
  if (items.length === 0) throw new TemplateError('at least one item has to be provided');
  const made = new PythonObject('Cycler');
  const place = (at: number): void => {
    const index = at % items.length;
    made.attributes.set('current', items[index] ?? null);
    made.attributes.set(
      'next',
      method(() => {
        place(index + 1);
        return items[index] ?? null;
      }),
    );
  };
  made.attributes.set(
    'reset',
    method(() => {
      place(0);
      return null;
    }),
  );
  place(0);
  return made;
}

function method(run: () => Value): PythonObject {
  return new PythonObject('method', run);
}

function joiner(given: Arguments): Value {
  const [separator = ', '] = bind('joiner', ['sep?'], given);
  let isUsed = false;
  return new PythonObject('Joiner', () => {
    const shown = isUsed && isTrue(separator) ? separator : '';
    isUsed = true;
    return shown;
  });
}
