import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { R3Error } from '../lib/errors.ts';
import { parseConversationRow, trainedTokens, type ConversationMessage } from './conversation.ts';

const user = { role: 'user', content: 'q' };
const wrote = (fields: object = {}): unknown => ({
  messages: [user, { role: 'assistant', content: 'a b c', ...fields }],
});

function refusal(row: unknown): string {
  try {
    parseConversationRow(row, 'x.jsonl line 3');
  } catch (error) {
    expect(error).toBeInstanceOf(R3Error);
    expect((error as R3Error).code).toBe('bad-row');
    return (error as R3Error).message.replace(/^x\.jsonl line 3: /, '');
  }
  return 'accepted';
}

/** The trained token indices of the last message, which has four tokens: a, b, c and the end. */
function trained(row: unknown): number[] {
  const message = parseConversationRow(row, 'row').messages.at(-1) as ConversationMessage;
  return trainedTokens(message, 4, 'row');
}

describe('what is trained', () => {
  test('an assistant message with its end token, by default', () => {
    expect(trained(wrote())).toEqual([0, 1, 2, 3]);
    expect(trained(wrote({ weight: 1 }))).toEqual([0, 1, 2, 3]);
  });

  test('only the tokens in the ranges of train', () => {
    expect(trained(wrote({ train: [[1, 4]] }))).toEqual([1, 2, 3]);
    expect(trained(wrote({ train: [[0, 1], [1, 2], [3, 4]] }))).toEqual([0, 1, 3]); // prettier-ignore
  });

  test('nothing of a message with weight 0, an empty train or another role', () => {
    for (const fields of [{ weight: 0 }, { train: [] }]) {
      const { messages } = parseConversationRow(
        {
          messages: [
            { role: 'assistant', content: 'x', ...fields },
            { role: 'assistant', content: 'y' },
          ],
        },
        'row',
      );
      expect(trainedTokens(messages[0] as ConversationMessage, 2, 'row')).toEqual([]);
    }
    expect(trainedTokens({ role: 'user', content: 'q' }, 2, 'row')).toEqual([]);
  });

  test('ranges that end after the message are an error', () => {
    expect(() => trained(wrote({ train: [[1, 5]] }))).toThrow(
      'row: train: expected ranges within the 4 tokens of "a b c", got [1,5]',
    );
  });
});

test('a row as Parquet gives it, with nulls and bigint, is the row that JSON gives', () => {
  const row = {
    id: 5n,
    kind: null,
    messages: [
      { ...user, weight: null, train: null, tool_calls: null },
      { role: 'assistant', content: 'a', weight: 1n, train: [[0n, 1n]] },
    ],
  };
  expect(parseConversationRow(row, 'row')).toEqual({
    messages: [user, { role: 'assistant', content: 'a', weight: 1, train: [[0, 1]] }],
  });
});

test('the kind is kept, other fields of the row are left out', () => {
  expect(parseConversationRow({ ...(wrote() as object), kind: 'attempt', source: 'x' }, 'row')).toEqual({
    ...(wrote() as object),
    kind: 'attempt',
  });
});

describe('refused', () => {
  test.each([
    [null, 'row: expected an object, got null'],
    [[], 'row: expected an object, got []'],
    [{}, 'messages: expected a list of 1 to 1000 messages, got nothing'],
    [{ messages: [] }, 'messages: expected a list of 1 to 1000 messages, got []'],
    [{ messages: ['hi'] }, 'messages[0]: expected an object, got "hi"'],
    [{ messages: [user] }, 'messages: expected an assistant message that is trained, got "user"'],
    [wrote({ weight: 0 }), 'messages: expected an assistant message that is trained, got "user, assistant"'],
    [wrote({ train: [] }), 'messages: expected an assistant message that is trained, got "user, assistant"'],
    [
      { messages: [{ role: 'tool', content: '' }] },
      'messages[0].role: expected system, user, assistant, got "tool"',
    ],
    [
      wrote({ content: [{ type: 'text', text: 'a' }] }),
      'messages[1].content: expected a text, got [{"type":"text","text":"a"}]',
    ],
    [wrote({ wieght: 0 }), 'messages[1]: expected only role, content, weight, train, got "wieght"'],
    [
      wrote({ tool_calls: [{}] }),
      'messages[1]: expected only role, content, weight, train, got "tool_calls"',
    ],
    [wrote({ weight: 0.5 }), 'messages[1].weight: expected 0 or 1, got 0.5'],
    [wrote({ weight: '1' }), 'messages[1].weight: expected 0 or 1, got "1"'],
    [{ messages: [{ ...user, weight: 1 }] }, 'messages[0].weight: expected 0 for role user, got 1'],
    [
      { messages: [{ ...user, train: [[0, 1]] }] },
      'messages[0].train: expected no ranges for role user, got [[0,1]]',
    ],
    [
      wrote({ weight: 0, train: [[0, 1]] }),
      'messages[1].train: expected no ranges beside weight 0, got [[0,1]]',
    ],
    [wrote({ train: 1 }), 'messages[1].train: expected a list of at most 10000 [from, to] pairs, got 1'],
    [wrote({ train: [[1]] }), 'messages[1].train[0]: expected [from, to] with 0 <= from < to, got [1]'],
    [
      wrote({ train: [[-1, 2]] }),
      'messages[1].train[0]: expected [from, to] with 0 <= from < to, got [-1,2]',
    ],
    [wrote({ train: [[2, 2]] }), 'messages[1].train[0]: expected [from, to] with 0 <= from < to, got [2,2]'],
    [wrote({ train: [[0, 2], [1, 3]] }), 'messages[1].train[1]: expected [from, to] with 2 <= from < to, got [1,3]'], // prettier-ignore
    [{ ...(wrote() as object), kind: 3 }, 'kind: expected a text, got 3'],
  ])('%j', (row, message) => {
    expect(refusal(row)).toBe(message);
  });

  test('any other JSON value, with an R3Error and never another', () => {
    const near = fc.record(
      {
        role: fc.constantFrom('user', 'assistant', 1),
        content: fc.constantFrom('a', null),
        weight: fc.jsonValue(),
        train: fc.jsonValue(),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(
        fc.oneof(fc.jsonValue(), fc.record({ messages: fc.array(near, { maxLength: 3 }) })),
        (row) => {
          // `refusal` fails on any error that is not an R3Error of code bad-row.
          expect(typeof refusal(row)).toBe('string');
        },
      ),
    );
  });
});
