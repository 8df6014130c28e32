/**
 * Chat formats on the fixtures of test/fixtures/tokenizers, and on small templates written here that do what
 * published ones do: trim answers, drop thinking, move the system message, print the date.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import type { Message } from './message.ts';
import { loadChatFormat, makeChatFormat, type ChatFormat } from './chat.ts';
import { checkTemplate } from './check-template.ts';
import { makeChatTemplate } from './template.ts';
import { loadTokenizer } from './tokenizer.ts';

const NOW = new Date('2026-02-03T23:30:00Z');
const fixture = (kind: string): string =>
  fileURLToPath(new URL(`../../test/fixtures/tokenizers/${kind}`, import.meta.url));
const tokenizer = loadTokenizer(fixture('byte-level'));
const chatml = loadChatFormat(fixture('byte-level'), tokenizer, NOW);
const END = 318; // <|im_end|>

const system = (content: string): Message => ({ role: 'system', content });
const user = (content: string): Message => ({ role: 'user', content });
const assistant = (content: string): Message => ({ role: 'assistant', content });
const formatOf = (template: string): ChatFormat =>
  makeChatFormat(makeChatTemplate(template, 'chat template', { eos_token: '<|im_end|>' }), tokenizer, NOW);
/** ChatML with something else in place of each message's content. */
const chatmlWith = (content: string): string =>
  `{% for message in messages %}{% set content = ${content} %}<|im_start|>{{ message.role }}\n{{ content }}<|im_end|>\n` +
  "{% endfor %}{{ '<|im_start|>assistant\\n' }}";
const DROPS_THINKING = chatmlWith("message.content.split('</think>')[-1]");

const scratch = mkdtempSync(join(tmpdir(), 'chat-'));
afterAll(() => rmSync(scratch, { recursive: true }));
/** The chat format of a directory with these files. */
function load(files: Record<string, string>): ChatFormat {
  const directory = mkdtempSync(join(scratch, 'model-'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  return loadChatFormat(directory, tokenizer, NOW);
}

test('a prompt ends with the header of the answer', () => {
  const expected = '<|im_start|>user\ntry<|im_end|>\n<|im_start|>assistant\n';
  expect(chatml.render([user('try')])).toBe(expected);
  expect(tokenizer.decodeWithSpecials(chatml.prompt([user('try')]))).toBe(expected);
});

describe.each(['byte-level', 'byte-fallback', 'word-level'])('%s', (kind) => {
  const ownTokenizer = loadTokenizer(fixture(kind));
  const format = loadChatFormat(fixture(kind), ownTokenizer, NOW);
  const endOfTurn = ownTokenizer.encode(kind === 'byte-level' ? '<|im_end|>' : '<|end|>');
  const content = fc
    .array(fc.constantFrom('try', 'again', 'use', 'the', 'numbers', '12', '+'), {
      minLength: 1,
      maxLength: 5,
    })
    .map((words) => words.join(' '));

  test('extending by an answer gives the ids of the whole conversation, whether its end was sampled or not', () => {
    fc.assert(
      fc.property(content, content, content, fc.boolean(), (question, answer, next, ended) => {
        const messages = [user(question)];
        const tokens = [...ownTokenizer.encode(answer), ...(ended ? endOfTurn : [])];
        const written = { tokens, text: answer, stopReason: ended ? ('stop' as const) : ('length' as const) };
        const longer = format.extend(format.begin(messages), written, [user(next)]);
        expect(longer.messages).toEqual([user(question), assistant(answer), user(next)]);
        expect(longer.tokens).toEqual(format.prompt(longer.messages));
      }),
    );
  });

  test('the template is prefix-preserving, with a system message and with thinking, too', () => {
    const whole = { prefixPreserving: true, takesSystem: true, keepsThinking: true, detail: '' };
    expect(checkTemplate(format)).toEqual(whole);
  });

  test('the stop ids hold the end of turn', () => {
    expect(format.stopIds).toEqual(ownTokenizer.eosIds);
    expect(format.stopIds).toContain(endOfTurn[0]);
  });
});

test('sampled ids stay as they are, where the same text has other ids', () => {
  const sampled = [' ', 'answ', 'er'].flatMap((part) => tokenizer.encode(part));
  expect(sampled).not.toEqual(tokenizer.encode(' answer'));
  const prompt = chatml.prompt([user('e')]);
  const written = { tokens: [...sampled, END], text: ' answer', stopReason: 'stop' as const };
  const { tokens } = chatml.extend({ ...chatml.begin([user('e')]), tokens: prompt }, written, [user('n')]);
  expect(tokens.slice(0, prompt.length + written.tokens.length)).toEqual([...prompt, ...written.tokens]);
  expect(tokenizer.decodeWithSpecials(tokens.slice(prompt.length + written.tokens.length))).toBe(
    '\n<|im_start|>user\nn<|im_end|>\n<|im_start|>assistant\n',
  );
});

test('after another stop token the end of turn of the template follows', () => {
  const written = { tokens: [68, 316], text: 'e', stopReason: 'stop' as const };
  const { tokens } = chatml.extend({ ...chatml.begin([user('e')]), tokens: [] }, written, [user('n')]);
  expect(tokenizer.decodeWithSpecials(tokens)).toMatch(/^e<\|endoftext\|><\|im_end\|>\n<\|im_start\|>user/);
});

test('an answer that the template trims keeps its ids, and what follows is found', () => {
  const format = formatOf(chatmlWith('message.content | trim'));
  const written = {
    tokens: [...tokenizer.encode(' \ne \n'), END],
    text: ' \ne \n',
    stopReason: 'stop' as const,
  };
  const { tokens } = format.extend({ ...format.begin([user('e')]), tokens: [] }, written, [user('n')]);
  expect(tokenizer.decodeWithSpecials(tokens)).toBe(
    ' \ne \n<|im_end|>\n<|im_start|>user\nn<|im_end|>\n<|im_start|>assistant\n',
  );
});

test('an answer that the template changes is an error that says where', () => {
  const format = formatOf(DROPS_THINKING);
  const text = '<think>hm</think>try';
  const written = { tokens: tokenizer.encode(text), text, stopReason: 'length' as const };
  expect(() => format.extend({ ...format.begin([user('e')]), tokens: [] }, written, [user('n')])).toThrow(
    'expected the answer as it was sampled to stay as it is when messages are added, got a difference at ' +
      'character 51: "<think>hm</think>try" became "try<|im_end|>',
  );
});

test('a template that drops thinking is prefix-preserving only for plain answers', () => {
  const check = checkTemplate(formatOf(DROPS_THINKING));
  expect(check).toMatchObject({ prefixPreserving: true, takesSystem: true, keepsThinking: false });
  expect(check.detail).toMatch(/^Answers with a <think> block: .* became "The first answer/);
});

test('a template that opens the thinking itself and keeps it passes for thinking answers only', () => {
  const check = checkTemplate(
    formatOf(
      "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.role == 'assistant' %}<think>\n" +
        "{% if '</think>' not in message.content %}</think>\n{% endif %}{% endif %}{{ message.content }}<|im_end|>\n" +
        "{% endfor %}{{ '<|im_start|>assistant\\n<think>\\n' }}",
    ),
  );
  expect(check).toMatchObject({ prefixPreserving: false, keepsThinking: true });
});

test('a template that moves the system message to the last user turn does not take one', () => {
  const check = checkTemplate(
    formatOf(
      '{% for message in messages if message.role != "system" %}<|im_start|>' +
        '{% if loop.last and messages[0].role == "system" %}{{ messages[0].content }} {% endif %}' +
        '{{ message.content }}<|im_end|>{% endfor %}<|im_start|>',
    ),
  );
  expect(check).toMatchObject({ prefixPreserving: true, takesSystem: false });
  expect(check.detail).toMatch(/^With a system message: .*the conversation so far/);
});

test('a template that hides the system message does not take one', () => {
  const check = checkTemplate(
    formatOf(
      '{% for message in messages if message.role != "system" %}{{ message.content }}<|im_end|>{% endfor %}',
    ),
  );
  expect(check).toMatchObject({ prefixPreserving: true, takesSystem: false });
  expect(check.detail).toMatch(/expected the system message to be shown/);
});

test('a template that refuses a role is an error with its reason', () => {
  const format = formatOf(
    "{% if messages[0].role == 'system' %}{{ raise_exception('No system') }}{% endif %}",
  );
  expect(() => format.prompt([system('s'), user('u')])).toThrow(
    /render the roles system, user, got: No system/,
  );
});

test('the end of turn that the template writes is a stop id, even where no file says so', () => {
  const format = formatOf(chatmlWith('message.content').replaceAll('<|im_end|>', '<|im_start|>'));
  expect(tokenizer.eosIds).not.toContain(317);
  expect(format.stopIds).toEqual([...tokenizer.eosIds, 317]);
});

test('templates that print a date see the given time, in English and UTC', () => {
  const format = formatOf("{{ strftime_now('%d %b %Y, %A, %B %H:%M %m %%') }}");
  expect(format.render([user('u')])).toBe('03 Feb 2026, Tuesday, February 23:30 02 %');
});

test('blocks are trimmed and line ends are read as Jinja2 has it', () => {
  const format = formatOf(
    '{% if true %}\r\n  {% set x = 1 %}\r\na{{ bos_token }}{{ eos_token }}\r\n{% endif %}\r\n',
  );
  expect(format.render([user('u')])).toBe('a<|im_end|>\n');
});

test('chat_template.jinja goes before tokenizer_config.json, and there the one named default is taken', () => {
  const config = JSON.stringify({
    chat_template: [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'plain' },
    ],
  });
  expect(load({ 'tokenizer_config.json': config }).render([user('u')])).toBe('plain');
  expect(load({ 'tokenizer_config.json': '{"chat_template": "one"}' }).render([user('u')])).toBe('one');
  expect(load({ 'tokenizer_config.json': config, 'chat_template.jinja': 'file' }).render([user('u')])).toBe(
    'file',
  );
});

test.each<[string, Record<string, string>, RegExp]>([
  ['no template', {}, /expected chat_template\.jinja, or chat_template .* got neither/],
  [
    'no default',
    { 'tokenizer_config.json': '{"chat_template": [{"name": "rag", "template": "x"}]}' },
    /got rag/,
  ],
  [
    'no Jinja',
    { 'chat_template.jinja': '{% if %}' },
    /chat_template\.jinja: chat template: expected a Jinja template, got: line 1: expected an expression, got %/,
  ],
  [
    'a block that does not end',
    { 'tokenizer_config.json': '{"chat_template": "{% for a in b %}"}' },
    /tokenizer_config\.json: chat template: expected a Jinja template, got: line 1: expected endfor or else, got the end/,
  ],
  ['an empty template', { 'chat_template.jinja': '\n' }, /chat_template\.jinja: .* got an empty text/],
  [
    'a template that is a number',
    { 'tokenizer_config.json': '{"chat_template": 3}' },
    /tokenizer_config\.json: chat_template: expected a text or a list of named ones, got 3/,
  ],
])('%s is an error that says so', (_, files, message) => {
  expect(() => load(files)).toThrow(message);
});
