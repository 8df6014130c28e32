import { expect, test } from 'vitest';
import { adversarialAnswers } from './adversarial.ts';

const kinds = adversarialAnswers('Add 1 and 2.', ['3', 'three']);
const of = (name: string): readonly string[] => kinds.find((kind) => kind.name === name)?.answers ?? [];

test('there are the empty answer, a megabyte, the prompt, NUL bytes, a hundred thousand levels', () => {
  expect(of('empty answers')).toContain('');
  expect(Math.max(...of('huge answers').map(({ length }) => length))).toBe(1 << 20);
  expect(of('prompt echoed')).toContain('Add 1 and 2.');
  expect(of('control characters')).toContain('\0');
  expect(of('control tokens')).toContain('<|im_end|>');
  expect(of('deep nesting').some((answer) => answer.startsWith('['.repeat(100_000)))).toBe(true);
  expect(of('long numbers')).toContain('9'.repeat(100_000));
});

test('a known-good answer is disguised: refused, marked, repeated, in other digits', () => {
  const disguised = of('good answers in disguise');
  expect(disguised).toContain('\u202e3');
  expect(disguised).toContain('\uff13');
  expect(disguised.some((answer) => answer.split('\n').length === 1000)).toBe(true);
  expect(adversarialAnswers('p', []).at(-1)?.answers).toEqual([]);
});

test('what is known to be good is not called junk', () => {
  const all = adversarialAnswers('yes?', ['N/A', 'yes?']);
  expect(all.find(({ name }) => name === 'junk')).toMatchObject({ expected: 'fail' });
  expect(all.find(({ name }) => name === 'junk')?.answers).not.toContain('N/A');
  expect(all.find(({ name }) => name === 'prompt echoed')?.answers).toEqual(['yes?\nyes?']);
});

test('where saying nothing is right, nothing is expected to fail', () => {
  expect(new Set(adversarialAnswers('p', ['']).map(({ expected }) => expected))).toEqual(new Set(['any']));
});
