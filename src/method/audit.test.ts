import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  auditLogprobs,
  auditMask,
  auditSignal,
  auditStartRate,
  auditStopTokens,
  auditTemplate,
  auditVerifier,
} from './audit.ts';
import { reflectionDatum } from './datum.ts';
import type { Problem, Written } from './episode.ts';
import type { Task } from './task.ts';

type Ended = Pick<Written, 'tokens' | 'stopReason'>;

const prompts = { name: 'plain', reflect: 'Why?' };
/** Answer the id. */
const echo: Task = {
  name: 'echo',
  promptSets: ['plain'],
  prompts: () => prompts,
  pose: (problem) => [{ role: 'user', content: problem.id }],
  poseAgain: (problem) => problem.id,
  verify: (problem, answer) =>
    answer === problem.id ? { ok: true } : { ok: false, class: 'wrong', why: `expected ${problem.id}` },
  parseRow: (_, index): Problem => ({ id: String(index) }),
  known: (problem) => [
    { answer: problem.id, ok: true },
    { answer: 'junk', ok: false },
  ],
};

test('a verifier that agrees with the known answers passes, one that does not is shown with its first mistake', async () => {
  const problems = [{ id: 'a' }, { id: 'b' }];
  expect(await auditVerifier(echo, problems, prompts)).toEqual({
    name: 'verifier',
    ok: true,
    detail: '2 known-good answers accepted, 2 junk answers rejected',
  });
  const yes: Task = { ...echo, verify: () => ({ ok: true }) };
  expect(await auditVerifier(yes, problems, prompts)).toMatchObject({
    ok: false,
    detail: 'problem a, answer "junk": expected fail, got pass',
  });
  const broken: Task = {
    ...echo,
    verify: () => {
      throw new Error('no parser');
    },
  };
  expect(await auditVerifier(broken, problems, prompts)).toMatchObject({
    ok: false,
    detail: 'problem a, answer "a": expected pass, got an error: no parser',
  });
  const onlyGood: Task = { ...echo, known: (problem) => [{ answer: problem.id, ok: true }] };
  expect((await auditVerifier(onlyGood, problems, prompts)).ok).toBe(false);
  expect((await auditVerifier(echo, [], prompts)).ok).toBe(false);
});

test('a completion that ended must end with a stop id, and only there', () => {
  const stop: Ended = { tokens: [4, 5, 99], stopReason: 'stop' };
  const cut: Ended = { tokens: [4, 5, 6], stopReason: 'length' };
  const check = (tokens: number[], stopReason: Ended['stopReason']): boolean =>
    auditStopTokens([stop, { tokens, stopReason }], [98, 99]).ok;
  expect(auditStopTokens([stop, cut], [98, 99])).toMatchObject({
    ok: true,
    detail: '1 of 2 completions ended with a stop id',
  });
  expect(check([4, 98], 'stop')).toBe(true);
  expect(check([4, 5], 'stop')).toBe(false);
  expect(check([98, 5, 99], 'stop')).toBe(false);
  expect(check([], 'stop')).toBe(false);
  expect(check([98, 5], 'length')).toBe(false);
  expect(auditStopTokens([cut], [99]).ok).toBe(false);
});

test('the mask check accepts what reflectionDatum builds and refuses any other positions or ids', () => {
  const ids = fc.array(fc.nat(50), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(ids, ids, (prompt, reflection) => {
      const datum = reflectionDatum(prompt, reflection);
      const ok = (tokens: readonly number[], positions: readonly number[]): boolean =>
        auditMask([{ datum: { tokens, positions }, prompt, reflection }]).ok;
      const { tokens, positions } = datum;
      expect(ok(tokens, positions)).toBe(true);
      expect(ok(tokens, positions.slice(1))).toBe(false);
      expect(ok(tokens, positions.slice(0, -1))).toBe(false);
      expect(
        ok(
          tokens,
          positions.map((position) => position - 1),
        ),
      ).toBe(false);
      expect(ok(tokens, [prompt.length - 1, ...positions])).toBe(false);
      expect(ok([...tokens.slice(0, -1), 51], positions)).toBe(false);
    }),
  );
  expect(auditMask([]).ok).toBe(false);
});

test('log-probabilities must be equal to the bit unless a tolerance is given', () => {
  const sampled = [[-1.5, Math.fround(-0.1)], [-3]];
  const equal = auditLogprobs(
    sampled,
    sampled.map((values) => Float32Array.from(values)),
  );
  expect(equal).toMatchObject({ ok: true, bitEqual: true, largestDifference: 0 });
  const near = [[-1.5, Math.fround(-0.1)], [-3 - 2 ** -20]];
  expect(auditLogprobs(sampled, near)).toMatchObject({
    ok: false,
    bitEqual: false,
    largestDifference: 2 ** -20,
  });
  expect(auditLogprobs(sampled, near, 1e-5).ok).toBe(true);
  expect(auditLogprobs(sampled, near, 1e-7).ok).toBe(false);
});

test('values that are not finite, missing sequences and missing tokens never pass the log-probability check', () => {
  expect(auditLogprobs([[Number.NaN]], [[Number.NaN]], 1)).toMatchObject({
    ok: false,
    largestDifference: Infinity,
  });
  expect(auditLogprobs([[-Infinity]], [[-Infinity]]).ok).toBe(false);
  expect(auditLogprobs([[-1]], [[-1], [-1]], 1).ok).toBe(false);
  expect(auditLogprobs([[-1, -1]], [[-1]], 1).ok).toBe(false);
  expect(auditLogprobs([], []).ok).toBe(false);
});

test('a start at which nothing or everything passes, or no group is mixed, is refused', () => {
  expect([auditStartRate(0, 9), auditStartRate(9, 9), auditStartRate(0, 0)].map((check) => check.ok)).toEqual(
    [false, false, false],
  );
  expect(auditStartRate(3, 9)).toMatchObject({ ok: true, detail: '3 of 9 first tries passed' });
  expect(auditSignal(['all-fail', 'all-pass', 'unscored'], 16).ok).toBe(false);
  expect(auditSignal(['all-fail', 'mixed'], 16)).toMatchObject({
    ok: true,
    detail: '1 of 2 groups of 16 reflections are mixed',
  });
  expect(auditTemplate(false, 'turn 2 changed')).toEqual({
    name: 'template',
    ok: false,
    detail: 'turn 2 changed',
  });
});
