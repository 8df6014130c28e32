/** How a call's arguments find the parameters of a function, as Python does it. */
import { TemplateError } from './errors.ts';
import { toText, tryInt, tryText, typeName, type Arguments, type Value } from './values.ts';

/**
 * The value of each parameter, undefined where none was given. `parameters`: their names, `name?` for one that may be
 * left out. Throws TemplateError for a missing, unknown or doubled one.
 */
export function bind(what: string, parameters: readonly string[], given: Arguments): (Value | undefined)[] {
  if (given.positional.length > parameters.length) {
    throw new TemplateError(
      `${what}() takes at most ${parameters.length} arguments (${given.positional.length} given)`,
    );
  }
  const names = parameters.map((parameter) => parameter.replace('?', ''));
  const values: (Value | undefined)[] = names.map((_, i) => given.positional[i]);
  for (const [name, value] of given.named) {
    const i = names.indexOf(name);
    if (i < 0) throw new TemplateError(`${what}() got an unexpected keyword argument '${name}'`);
    if (values[i] !== undefined) throw new TemplateError(`${what}() got multiple values for '${name}'`);
    values[i] = value;
  }
  const missing = parameters.find((parameter, i) => values[i] === undefined && !parameter.endsWith('?'));
  if (missing !== undefined) throw new TemplateError(`${what}() missing the argument '${missing}'`);
  return values;
}

/** A text argument. Throws TemplateError for another type. */
export function textArgument(what: string, value: Value | undefined): string {
  const text = value === undefined ? undefined : tryText(value);
  if (text === undefined) {
    throw new TemplateError(
      `${what}: expected a text, got ${value === undefined ? 'nothing' : typeName(value)}`,
    );
  }
  return text;
}

/** An int argument as a number. Throws TemplateError for another type. */
export function intArgument(what: string, value: Value | undefined, standard: number): number {
  if (value === undefined) return standard;
  const int = tryInt(value);
  if (int === undefined) throw new TemplateError(`${what}: expected an int, got ${typeName(value)}`);
  return Number(int);
}

/** Jinja's soft_str: markup stays, other values are printed. */
export function softText(value: Value): Value {
  return tryText(value) === undefined ? toText(value) : value;
}
