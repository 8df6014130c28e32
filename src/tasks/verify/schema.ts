/**
 * A verifier that takes an answer as JSON and holds it to a JSON Schema, with @cfworker/json-schema: no code is
 * generated from the schema. Drafts 4, 7, 2019-09 and 2020-12, by `$schema` (default 2020-12).
 *
 * JSON is read strictly: a key that occurs twice, a number beyond a double and deep nesting fail. Schemas are not held
 * to their meta-schema; what would silently accept or refuse everything (a misspelt type, a bad pattern) is refused.
 */
import { Validator, type SchemaDraft } from '@cfworker/json-schema';
import { messageOf } from '../../lib/errors.ts';
import { isObject, parseJson, showValue } from '../../lib/json.ts';
import type { Verdict } from '../../method/episode.ts';
import { parsePattern } from './pattern.ts';
import { withinTime } from './time-limit.ts';

const TYPES: readonly unknown[] = ['array', 'boolean', 'integer', 'null', 'number', 'object', 'string'];
/** Keywords whose value is data, not a schema. */
const DATA: readonly string[] = ['enum', 'const', 'default', 'examples'];
const DRAFTS: readonly [RegExp, SchemaDraft][] = [
  [/draft-04/, '4'],
  [/draft-0[67]/, '7'],
  [/2019-09/, '2019-09'],
  [/2020-12/, '2020-12'],
];

/** Throws an Error for what is not a schema, or one whose references lead nowhere. */
export function makeSchemaVerifier(schema: unknown): (text: string) => Verdict {
  if (!isObject(schema))
    throw new Error(`expected a JSON Schema, which is an object, got ${showValue(schema)}`);
  checkSchema(schema, '', schema);
  const named = schema['$schema'];
  const draft =
    named === undefined
      ? '2020-12'
      : DRAFTS.find(([form]) => typeof named === 'string' && form.test(named))?.[1];
  if (draft === undefined) {
    throw new Error(`$schema: expected draft 4, 7, 2019-09 or 2020-12, got ${showValue(named)}`);
  }
  const validator = new Validator(schema, draft);
  return (text) => {
    let value: unknown;
    try {
      value = parseJson(text.trim());
    } catch (error) {
      return { ok: false, class: 'not JSON', why: messageOf(error) };
    }
    const { valid, errors } = withinTime('jsonSchema', () => validator.validate(value));
    if (valid) return { ok: true };
    // The first errors are those of the schemas around the one that failed.
    const { instanceLocation = '#', error = 'the schema does not allow it' } = errors.at(-1) ?? {};
    return { ok: false, class: 'schema', why: `${instanceLocation}: ${error}` };
  };
}

function checkSchema(schema: unknown, path: string, root: unknown): void {
  if (Array.isArray(schema)) {
    schema.forEach((each, i) => checkSchema(each, `${path}[${i}]`, root));
    return;
  }
  if (!isObject(schema)) return;
  for (const [key, value] of Object.entries(schema)) {
    const where = path === '' ? key : `${path}.${key}`;
    if (DATA.includes(key)) continue;
    const isTypes =
      typeof value === 'string' || (Array.isArray(value) && value.every((v) => typeof v === 'string'));
    if (key === 'type' && isTypes) {
      for (const type of [value].flat()) {
        if (!TYPES.includes(type))
          throw new Error(`${where}: expected ${TYPES.join(', ')}, got ${showValue(type)}`);
      }
    } else if (key === 'pattern' && typeof value === 'string') parsePattern(where, value);
    else if (key === '$ref' && typeof value === 'string' && !leadsSomewhere(value, root)) {
      throw new Error(`${where}: expected a reference to a part of this schema, got ${showValue(value)}`);
    } else checkSchema(value, where, root);
  }
}

/** Whether a reference is a pointer to something in the schema, or an anchor, which is looked up when it is met. */
function leadsSomewhere(reference: string, root: unknown): boolean {
  if (!reference.startsWith('#/')) return reference.startsWith('#');
  let value = root;
  for (const step of decodeURIComponent(reference.slice(2)).split('/')) {
    const key = step.replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return false;
    value = (value as Record<string, unknown>)[key];
  }
  return true;
}
