/**
 * Chat templates against transformers 5.17: test/fixtures/text/templates.json, which scripts/fixtures/text/templates.py
 * wrote. Each case is a template of one construct, with the text, the spans or the kind of error that it gives there.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { FILTER_NAMES } from './jinja/filter-names.ts';
import { parseExactJson } from './jinja/json.ts';
import { TemplateFailure, makeChatTemplate, type MessageFields, type Rendered } from './template.ts';

const file = readFileSync(new URL('../../test/fixtures/text/templates.json', import.meta.url), 'utf8');
const fixture = parseExactJson(file) as Map<string, unknown>;
const now = new Date(`${String(fixture.get('now'))}Z`);
const cases = fixture.get('cases') as Map<string, unknown>[];

/** What a case gives here, in the form of the fixture. */
function outcome(given: Map<string, unknown>): {
  text?: string;
  spans?: unknown;
  error?: string;
  why?: string;
} {
  let rendered: Rendered;
  try {
    rendered = makeChatTemplate(String(given.get('template')), 'template').render({
      messages: (given.get('messages') ?? fixture.get('messages')) as MessageFields[],
      variables: fixture.get('variables') as Map<string, unknown>,
      addGenerationPrompt: given.get('prompt') === true,
      continueFinalMessage: given.get('continues') === true,
      now,
    });
  } catch (error) {
    if (!(error instanceof TemplateFailure)) throw error;
    return { error: error.kind };
  }
  const { text, assistantSpans = [] } = rendered;
  return assistantSpans.length > 0 ? { text, spans: assistantSpans } : { text };
}

test('every construct renders as in transformers, or fails in the same kind', () => {
  const different = cases.flatMap((given) => {
    const { text, spans, error } = Object.fromEntries(given);
    const expected = {
      ...(text === undefined ? { error } : { text }),
      ...(spans === undefined ? {} : { spans }),
    };
    const got = outcome(given);
    return JSON.stringify(got) === JSON.stringify(expected)
      ? []
      : [{ template: given.get('template'), expected, got }];
  });
  expect(cases.length).toBeGreaterThan(700);
  expect(different).toEqual([]);
});

test.each([...FILTER_NAMES])('the filter %s exists', (name) => {
  const render = (): Rendered =>
    makeChatTemplate(`{{ [] | ${name} | list }}`, 'template').render({ messages: [{}], now });
  let why = '';
  try {
    render();
  } catch (error) {
    why = String(error);
  }
  expect(why).not.toContain('No filter named');
});

test('a failure says which template, which roles and why', () => {
  const template = makeChatTemplate("{{ raise_exception('Not so') }}", 'that template');
  expect(() => template.render({ messages: [{ role: 'user' }, { role: 'tool' }], now })).toThrow(
    'that template: expected it to render the roles user, tool, got: Not so',
  );
});

test.each([
  ['{{ '.repeat(3) + '('.repeat(100_000), 'levels'],
  [`{{ ${'[1]+'.repeat(50_000)}[1] }}`, 'recursion'],
  ["{{ 'a' * 1000000000 }}", 'too long'],
  ['{{ 10 ** 1000000 }}', 'too large'],
  ['{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}', 'recursion'],
])('a hostile template ends in an error', (source, message) => {
  expect(() => makeChatTemplate(source, 'template').render({ messages: [{}], now })).toThrow(message);
});

test('a template whose loops would not end is stopped', () => {
  const source = '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}';
  const template = makeChatTemplate(source, 'endless');
  expect(() => template.render({ messages: [{ role: 'user', content: 'x' }], now: new Date(0) })).toThrow(
    'turns of loops',
  );
});
