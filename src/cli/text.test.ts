/** `r3 render` and `r3 tokenize`, run in place. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { runInPlace } from './testing.ts';

const folder = mkdtempSync(join(tmpdir(), 'r3-text-'));
afterAll(() => rmSync(folder, { recursive: true }));
const model = fileURLToPath(new URL('../../test/fixtures/tokenizers/byte-level', import.meta.url));

function file(name: string, ...lines: string[]): string {
  const path = join(folder, name);
  writeFileSync(path, lines.join('\n'));
  return path;
}

const lines = (text: string): unknown[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);

describe('render', () => {
  test('gives a line for each row: text, spans, or the kind of error', async () => {
    const template = file(
      'all.jinja',
      "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{% if m.role == 'critic' %}",
      "{{ raise_exception('No critics') }}{% endif %}🦀{% generation %}{{ m.content + x }}{% endgeneration %}{% endfor %}",
    );
    const rows = file(
      'all.jsonl',
      '{"messages": [{"role": "user", "content": "é"}], "variables": {"x": "!"}, "tools": [{"2": 1.0, "1": 12345678901234567890}]}',
      '{"messages": [{"role": "critic", "content": "a"}]}',
      '{"messages": [{"role": "user", "content": "a"}]}',
      '{"messages": [{"role": "user", "content": "a"}], "variables": {"x": ""}, "continue_final_message": true}',
    );
    const { code, stdout } = await runInPlace(['render', template, '--messages', rows, '--json']);
    expect(code).toBe(0);
    expect(lines(stdout)).toEqual([
      { text: '[{"2": 1.0, "1": 12345678901234567890}]🦀é!', assistantSpans: [[40, 42]] },
      { error: { kind: 'raised', message: 'No critics' } },
      { error: { kind: 'template', message: "'x' is undefined" } },
      { text: '🦀a', assistantSpans: [[1, 2]] },
    ]);
  });

  test('of a model folder uses its template, and says on stderr what it can be used for', async () => {
    const rows = file(
      'one.jsonl',
      '{"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": true}',
    );
    const { stdout, stderr } = await runInPlace(['render', model, '--messages', rows]);
    expect(stdout).toBe('1: "<|im_start|>user\\na<|im_end|>\\n<|im_start|>assistant\\n"\n');
    expect(stderr).toContain(
      'prefix-preserving with plain answers, a system message, answers with <think>\n',
    );
  });

  test('says why a template cannot be used for several turns', async () => {
    const template = file(
      'drops.jinja',
      "{% for m in messages %}{{ m.content.split('</think>')[-1] }}|{% endfor %}",
    );
    const rows = file('one.jsonl', '{"messages": [{"role": "user", "content": "a"}]}');
    const { stderr } = await runInPlace(['render', template, '--messages', rows]);
    expect(stderr).toContain('prefix-preserving with plain answers, a system message; other conversations');
    expect(stderr).toMatch(/Answers with a <think> block: .* to stay as it is when messages are added/);
  });

  test('of a template that does not parse answers every row with that error', async () => {
    const rows = file('one.jsonl', '{"messages": [{"role": "user", "content": "a"}]}');
    const { code, stdout } = await runInPlace([
      'render',
      file('bad.jinja', '{% if %}'),
      '--messages',
      rows,
      '--json',
    ]);
    expect(code).toBe(0);
    expect(lines(stdout)).toEqual([
      { error: { kind: 'template', message: 'line 1: expected an expression, got %}' } },
    ]);
  });

  test.each([
    ['2026-02-03', '2026-02-03 00:00'],
    ['2026-02-03T04:05:06', '2026-02-03 04:05'],
    ['2026-02-03 04:05', '2026-02-03 04:05'],
    ['2026-02-03T23:30:00-01:00', '2026-02-04 00:30'],
  ])('--now %s is what templates see', async (now, shown) => {
    const template = file('now.jinja', "{{ strftime_now('%Y-%m-%d %H:%M') }}");
    const rows = file('one.jsonl', '{"messages": [{"role": "user", "content": "a"}]}');
    const { stdout } = await runInPlace(['render', template, '--messages', rows, '--now', now, '--json']);
    expect(lines(stdout)).toEqual([{ text: shown }]);
  });

  test.each([
    ['{"messages": 3}', 'line 1: messages: expected a list, got 3'],
    ['{"messages": [3]}', 'line 1: messages[0]: expected an object, got 3'],
    ['{"messages": [], "tool": []}', 'line 1: expected no other keys, got tool'],
    ['{"messages"', 'line 1: expected a JSON object'],
  ])('of %s is one error with file and line', async (line, message) => {
    const rows = file('wrong.jsonl', line);
    const { code, stdout, stderr } = await runInPlace(['render', model, '--messages', rows, '--json']);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(`r3: ${rows} ${message}`);
  });

  test('refuses a time that is none, and a template that is not there', async () => {
    const rows = file('one.jsonl', '{"messages": [{"role": "user", "content": "a"}]}');
    const late = await runInPlace(['render', model, '--messages', rows, '--now', 'later']);
    expect(late).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--now: expected a time such as'),
    });
    const missing = await runInPlace(['render', join(folder, 'none'), '--messages', rows]);
    expect(missing.stderr).toContain('expected a model folder or a .jinja file, got nothing at this path');
  });
});

describe('tokenize', () => {
  const rows = file('texts.jsonl', '{"text": "e<|im_end|>"}', '{"text": ""}');

  test('gives ids and their text, special tokens shown', async () => {
    const { stdout } = await runInPlace(['tokenize', model, '--texts', rows, '--json']);
    expect(lines(stdout)).toEqual([
      { ids: [68, 318], decoded: 'e<|im_end|>' },
      { ids: [], decoded: '' },
    ]);
    expect(
      await runInPlace(['tokenize', join(model, 'tokenizer.json'), '--texts', rows, '--json']),
    ).toMatchObject({ stdout });
  });

  test('shows the tokens without --json', async () => {
    const { stdout } = await runInPlace(['tokenize', model, '--texts', rows, '--add-special-tokens']);
    expect(stdout).toBe('1: "e" "<|im_end|>"\n2: \n');
  });

  test('of a row without a text is one error with file and line', async () => {
    const wrong = file('wrong-text.jsonl', '{"text": 3}');
    const { code, stderr } = await runInPlace(['tokenize', model, '--texts', wrong]);
    expect(code).toBe(1);
    expect(stderr).toBe(`r3: ${wrong} line 1: text: expected a text, got 3\n`);
  });
});
