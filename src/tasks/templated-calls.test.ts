import { describe, expect, test } from 'vitest';
import { describeCallReflection } from './templated-calls-reflections.ts';
import { generateCalls, templatedCalls } from './templated-calls.ts';

const problem = {
  id: 'a',
  text: 'send train origin dest ; book room city nights ? request ship rail to rome from oslo',
  call: 'send train origin oslo dest rome',
};

describe('an answer', () => {
  test.each(['send train origin oslo dest rome', ' send train  dest rome origin oslo\n'])(
    '%j passes',
    (answer) => {
      expect(templatedCalls.verify(problem, answer)).toEqual({ ok: true });
    },
  );

  test.each([
    ['', 'format'],
    ['send', 'format'],
    ['send train origin', 'format'],
    ['send train origin oslo origin oslo', 'format'],
    ['buy train origin oslo dest rome', 'tool choice'],
    ['send boat', 'tool choice'],
    ['send train origin oslo', 'parameter name'],
    ['send train origin oslo dest rome date friday', 'parameter name'],
    ['send train origin oslo city rome', 'parameter name'],
    ['send train origin rome dest oslo', 'parameter value'],
  ])('%j fails: %s', (answer, errorClass) => {
    expect(templatedCalls.verify(problem, answer)).toMatchObject({ ok: false, class: errorClass });
  });

  test('with a known verdict gets that verdict', () => {
    for (const drawn of generateCalls({ count: 100, split: 'rl', seed: 1 })) {
      for (const { answer, ok } of templatedCalls.known(drawn)) {
        expect(templatedCalls.verify(drawn, answer).ok, answer).toBe(ok);
      }
    }
  });
});

test('a problem survives a row, and a broken row is refused by name', () => {
  const [drawn] = templatedCalls.generate({ count: 1, seed: 1 });
  expect(templatedCalls.parseRow(JSON.parse(JSON.stringify(drawn)))).toEqual(drawn);
  expect(() => templatedCalls.parseRow([])).toThrow('row: expected an object');
  expect(() => templatedCalls.parseRow({ text: '' })).toThrow('text: expected tools and a request');
  expect(() => templatedCalls.parseRow({ text: 'a', call: 'send train origin' })).toThrow('call: expected');
});

describe('a reflection', () => {
  const wanted = { verb: 'send', noun: 'train', values: new Map([['origin', 'oslo'], ['dest', 'rome']]) }; // prettier-ignore
  const attempt = { verb: 'buy', noun: 'train', values: new Map([['origin', 'oslo'], ['dest', 'lima']]) }; // prettier-ignore
  test.each([
    ['be careful', 'vague', 'none'],
    ['wrong', 'vague', 'none'],
    ['wrong tool', 'diagnosis', 'none'],
    ['missing dest', 'diagnosis', 'none'],
    ['missing tool', 'other', 'none'],
    ['wrong rome', 'other', 'none'],
    ['', 'other', 'none'],
    ['use', 'other', 'none'],
    ['use dest', 'other', 'none'],
    ['use tool send', 'correction', 'true'],
    ['use dest rome', 'correction', 'true'],
    ['use origin oslo dest rome', 'correction', 'true'],
    ['use dest oslo', 'correction', 'false'],
    ['use tool send dest paris', 'correction', 'false'],
    ['use date friday', 'correction', 'false'],
    ['use origin oslo', 'repetition', 'true'],
    ['use tool buy', 'repetition', 'false'],
  ])('%j is %s, hint %s', (text, kind, hint) => {
    expect(describeCallReflection(wanted, attempt, text)).toEqual({ kind, hint });
  });

  test('on an attempt that is no call cannot be a repetition', () => {
    expect(describeCallReflection(wanted, undefined, 'use origin oslo').kind).toBe('correction');
  });
});
