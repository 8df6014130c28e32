import { expect, test } from 'vitest';
import { makeSchemaVerifier } from './schema.ts';

const person = {
  type: 'object',
  properties: { name: { type: 'string', pattern: '^[A-Z]' }, age: { $ref: '#/$defs/age' } },
  required: ['name'],
  additionalProperties: false,
  $defs: { age: { type: 'integer', minimum: 0 } },
};

test.each([
  ['{"name": "Ada", "age": 36}', true, null],
  [' \n{"name": "Ada"}\n', true, null],
  ['{"name": "ada"}', false, 'schema'],
  ['{"name": "Ada", "age": -1}', false, 'schema'],
  ['{"name": "Ada", "age": "36"}', false, 'schema'],
  ['{"name": "Ada", "job": 1}', false, 'schema'],
  ['[]', false, 'schema'],
  ['{"name": "Ada", "name": "Bob"}', false, 'not JSON'],
  ['{"name": "Ada", "age": 1e999}', false, 'not JSON'],
  ['{"name": "Ada"} and more', false, 'not JSON'],
  ['', false, 'not JSON'],
  [`${'['.repeat(501)}${']'.repeat(501)}`, false, 'not JSON'],
])('%j: %s', (text, ok, errorClass) => {
  const verdict = makeSchemaVerifier(person)(text);
  expect({ ok: verdict.ok, class: verdict.ok ? null : verdict.class }).toEqual({ ok, class: errorClass });
});

test('the reason names the place in the answer', () => {
  const verify = makeSchemaVerifier(person);
  expect(verify('{"name": "Ada", "age": -1}')).toMatchObject({
    why: expect.stringMatching(/^#\/age: /) as string,
  });
});

test.each([
  [
    'draft 4',
    { $schema: 'http://json-schema.org/draft-04/schema#', minimum: 3, exclusiveMinimum: true },
    '3',
  ],
  ['draft 7', { $schema: 'http://json-schema.org/draft-07/schema#', exclusiveMinimum: 3 }, '3'],
  ['2020-12', { prefixItems: [{ type: 'string' }] }, '[1]'],
])('%s by $schema', (_, schema, text) => {
  expect(makeSchemaVerifier(schema)(text).ok).toBe(false);
});

test.each([
  [{ type: 'strnig' }, 'type: expected array, boolean, integer, null, number, object, string, got "strnig"'],
  [{ properties: { a: { type: ['string', 'nil'] } } }, 'properties.a.type: expected'],
  [{ pattern: '(' }, 'pattern: expected a regular expression'],
  [{ $ref: '#/$defs/none' }, '$ref: expected a reference to a part of this schema'],
  [{ $ref: 'https://host/schema.json' }, '$ref: expected a reference to a part of this schema'],
  [{ $schema: 'draft-03' }, '$schema: expected draft 4, 7, 2019-09 or 2020-12, got "draft-03"'],
  [[], 'expected a JSON Schema, which is an object, got []'],
])('%j is refused', (schema, message) => {
  expect(() => makeSchemaVerifier(schema)).toThrow(message);
});

test('properties that are named like keywords are properties', () => {
  const schema = {
    properties: { type: { type: 'string' }, pattern: { type: 'string' } },
    enum: [{ type: 'no' }],
  };
  expect(makeSchemaVerifier(schema)('{"type": "no"}')).toEqual({ ok: true });
});

test('a pattern of the schema that backtracks without end does not hang: the answer is not judged', () => {
  const verify = makeSchemaVerifier({ type: 'string', pattern: '^(a+)+$' });
  expect(() => verify(JSON.stringify(`${'a'.repeat(60)}!`))).toThrow(
    'jsonSchema: expected a verdict within 500 ms',
  );
});

test('a schema that refers to itself without end is an error, not a hang', () => {
  expect(() => makeSchemaVerifier({ $ref: '#' })('1')).toThrow();
});
