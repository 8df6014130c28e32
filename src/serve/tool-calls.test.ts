/** Tool calls in text that comes in pieces. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeToolCallReader, type ToolPart } from './tool-calls.ts';

/** What the pieces give, with texts that follow each other joined. */
function read(...pieces: string[]): ToolPart[] {
  const reader = makeToolCallReader();
  const parts = [...pieces.flatMap((piece) => reader.push(piece)), ...reader.end()];
  const joined: ToolPart[] = [];
  for (const part of parts) {
    const last = joined.at(-1);
    if ('text' in part && last !== undefined && 'text' in last) last.text += part.text;
    else joined.push({ ...part });
  }
  return joined;
}

const call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2]}}\n</tool_call>';
const added = { call: { name: 'add', arguments: '{"a":1,"b":[2]}' } };

test('a whole call is a call, and white space around it is dropped', () => {
  expect(read(`I add.\n${call}\n`)).toEqual([{ text: 'I add.' }, added]);
  expect(read(`${call}\n${call} done`)).toEqual([added, added, { text: 'done' }]);
});

test('text without a call stays as it is, white space and all', () => {
  for (const text of ['', ' ', 'a\n\n', '<tool', 'a < b ', '<tool_call>', call.slice(0, -1)]) {
    expect(read(text)).toEqual(text === '' ? [] : [{ text }]);
  }
});

test('a block that is not exactly a name and an object of arguments stays text', () => {
  for (const body of [
    '',
    'add(1)',
    '[]',
    'null',
    '{"name": "add"}',
    '{"name": "", "arguments": {}}',
    '{"name": 1, "arguments": {}}',
    '{"name": "add", "arguments": "{}"}',
    '{"name": "add", "arguments": {}, "id": 1}',
    '{"name": "add", "arguments": {}',
  ]) {
    const text = `a <tool_call>${body}</tool_call> b`;
    expect(read(text)).toEqual([{ text }]);
    expect(read(`${text} ${call}`)).toEqual([{ text }, added]);
  }
});

test('only what may begin a call, and the white space before it, is held back', () => {
  const reader = makeToolCallReader();
  expect(reader.push('a \n')).toEqual([{ text: 'a' }]);
  expect(reader.push('b <tool')).toEqual([{ text: ' \nb' }]);
  expect(reader.push('box')).toEqual([{ text: ' <toolbox' }]);
  expect(reader.push(` ${call}`)).toEqual([added]);
  expect(reader.end()).toEqual([]);
});

test('how the text is cut into pieces makes no difference', () => {
  const part = fc.constantFrom(call, '<tool_call>', '</tool_call>', 'a', ' ', '\n', '<', '{"name":');
  fc.assert(
    fc.property(fc.array(part, { maxLength: 8 }), fc.array(fc.nat(40)), (texts, lengths) => {
      const text = texts.join('');
      const pieces: string[] = [];
      let from = 0;
      for (const length of lengths) {
        pieces.push(text.slice(from, from + length));
        from += length;
      }
      expect(read(...pieces, text.slice(from))).toEqual(read(text));
    }),
  );
});
