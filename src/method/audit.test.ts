import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  auditGradient,
  auditGroups,
  auditLogprobs,
  auditMask,
  auditOptions,
  auditSampledIds,
  auditSampling,
  auditStopTokens,
  auditTemplate,
  auditVerifier,
  positionsOf,
} from './audit.ts';
import { reflectionDatum } from './datum.ts';
import type { Problem, Written } from './episode.ts';
import type { Task } from './task.ts';

type Ended = Pick<Written, 'tokens' | 'stopReason'>;

const prompts = { name: 'plain', reflect: 'Why?' };
/** Say the id. */
const echo: Task = {
  name: 'echo',
  promptSets: ['plain'],
  prompts: () => prompts,
  pose: (problem) => [{ role: 'user', content: `say ${problem.id}` }],
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
    state: 'ok',
    detail: '2 known-good answers accepted, 2 junk answers rejected',
  });
  const yes: Task = { ...echo, verify: () => ({ ok: true }) };
  expect(await auditVerifier(yes, problems, prompts)).toMatchObject({
    state: 'failed',
    detail: 'problem a, answer "junk": expected fail, got pass',
  });
  const broken: Task = {
    ...echo,
    verify: () => {
      throw new Error('no parser');
    },
  };
  expect(await auditVerifier(broken, problems, prompts)).toMatchObject({
    state: 'failed',
    detail: 'problem a, answer "a": expected pass, got an error: no parser',
  });
  const onlyGood: Task = { ...echo, known: (problem) => [{ answer: problem.id, ok: true }] };
  expect((await auditVerifier(onlyGood, problems, prompts)).state).toBe('failed');
  expect((await auditVerifier(echo, [], prompts)).state).toBe('failed');
});

test('a verifier that changes its mind is refused, on known answers and on those of the model', async () => {
  let calls = 0;
  const flaky: Task = {
    ...echo,
    verify: async (...args) => (++calls % 3 === 0 ? { ok: true } : echo.verify(...args)),
  };
  expect(await auditVerifier(flaky, [{ id: 'a' }], prompts)).toMatchObject({
    state: 'failed',
    detail: expect.stringMatching(/expected fail, got pass|the same verdict each time/),
  });
  const score = { ok: false, class: 'wrong', why: '' } as const;
  expect(
    await auditVerifier(echo, [{ id: 'a' }], prompts, [{ problem: { id: 'b' }, answer: 'b', score }]),
  ).toMatchObject({
    state: 'failed',
    detail: 'problem b, answer "b": expected the same verdict each time, got fail, then pass',
  });
});

test('the empty answer and the problem itself must not pass everywhere', async () => {
  const problems = [{ id: 'a' }, { id: 'b' }];
  const lenient: Task = {
    ...echo,
    verify: (problem, answer) =>
      answer === 'junk'
        ? { ok: false, class: 'wrong', why: '' }
        : answer === ''
          ? { ok: true }
          : echo.verify(problem, answer, prompts),
  };
  expect(await auditVerifier(lenient, problems, prompts)).toMatchObject({
    state: 'failed',
    detail: expect.stringContaining('the empty answer passes for 2 of 2 problems'),
  });
  const findsWord: Task = {
    ...echo,
    verify: (problem, answer) =>
      answer.includes(problem.id) && problem.id === 'a'
        ? { ok: true }
        : echo.verify(problem, answer, prompts),
  };
  expect(await auditVerifier(findsWord, problems, prompts)).toMatchObject({
    state: 'warning',
    detail: expect.stringContaining('the problem itself, given as answer, passes for 1 of 2 problems'),
  });
  const silent: Task = {
    ...lenient,
    known: () => [
      { answer: '', ok: true },
      { answer: 'junk', ok: false },
    ],
  };
  expect((await auditVerifier(silent, problems, prompts)).state).toBe('ok');
});

test('a completion that ended must end with a stop id, and only there', () => {
  const stop: Ended = { tokens: [4, 5, 99], stopReason: 'stop' };
  const cut: Ended = { tokens: [4, 5, 6], stopReason: 'length' };
  const set = { stopIds: [98, 99], eosIds: [98], endOfTurn: 99 };
  const check = (tokens: number[], stopReason: Ended['stopReason']): boolean =>
    auditStopTokens([stop, { tokens, stopReason }], set).state === 'ok';
  expect(auditStopTokens([stop, cut], set)).toMatchObject({
    state: 'ok',
    detail: '1 of 2 completions ended with a stop id; the stop ids are 98, 99',
  });
  expect(check([4, 98], 'stop')).toBe(true);
  expect(check([4, 5], 'stop')).toBe(false);
  expect(check([98, 5, 99], 'stop')).toBe(false);
  expect(check([], 'stop')).toBe(false);
  expect(check([98, 5], 'length')).toBe(false);
});

test('every end-of-sequence id and the end of turn must be among the stop ids', () => {
  const failed = (stopIds: number[], eosIds: number[], endOfTurn: number | undefined): string =>
    auditStopTokens([], { stopIds, eosIds, endOfTurn }).detail;
  expect(failed([98], [98, 99], undefined)).toMatch(
    /^expected 99 among the stop ids \(from generation_config/,
  );
  expect(failed([98], [98], 97)).toMatch(
    /^expected 97 among the stop ids \(the template's end of turn\), got 98/,
  );
  expect(failed([], [], undefined)).toMatch(/^expected at least one stop id/);
});

test('the mask check accepts what reflectionDatum builds and refuses any other positions', () => {
  const ids = fc.array(fc.nat(50), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(ids, ids, (prompt, reflection) => {
      const { tokens, positions } = reflectionDatum(prompt, reflection);
      const expected = positionsOf([{ prompt, tokens: reflection }]);
      const ok = (given: readonly number[]): boolean =>
        auditMask([{ datum: { tokens, positions: given }, expected }]).state === 'ok';
      expect(ok(positions)).toBe(true);
      expect(ok(positions.slice(1))).toBe(false);
      expect(ok(positions.slice(0, -1))).toBe(false);
      expect(ok(positions.map((position) => position - 1))).toBe(false);
      expect(ok([prompt.length - 1, ...positions])).toBe(false);
    }),
  );
  expect(auditMask([]).state).toBe('failed');
});

test('a sequence with several sampled runs has the positions of each', () => {
  const reflection = { prompt: [1, 2], tokens: [3, 4] };
  const retry = { prompt: [1, 2, 3, 4, 5], tokens: [6] };
  expect(positionsOf([retry])).toEqual([5]);
  expect(positionsOf([reflection, retry])).toEqual([2, 3, 5]);
});

test('ids that differ from what was sampled are shown at the first one', () => {
  const check = (got: number[]): string =>
    auditSampledIds([{ what: 'datum 0', sampled: [4, 5], got }]).detail;
  expect(auditSampledIds([{ what: 'datum 0', sampled: [4, 5], got: [4, 5] }]).state).toBe('ok');
  expect(check([4, 6])).toMatch(/^datum 0: expected the 2 ids that were sampled, got 6 for 5 at token 1/);
  expect(check([4, 5, 2])).toMatch(/got 2 for nothing at token 2/);
  expect(check([4])).toMatch(/got nothing for 5 at token 1/);
  expect(auditSampledIds([]).state).toBe('failed');
});

test('log-probabilities must be equal to the bit unless a tolerance is given', () => {
  const sampled = [[-1.5, Math.fround(-0.1)], [-3]];
  const equal = auditLogprobs(
    sampled,
    sampled.map((values) => Float32Array.from(values)),
  );
  expect(equal).toMatchObject({ state: 'ok', bitEqual: true, largestDifference: 0 });
  const near = [[-1.5, Math.fround(-0.1)], [-3 - 2 ** -20]];
  expect(auditLogprobs(sampled, near)).toMatchObject({
    state: 'failed',
    bitEqual: false,
    largestDifference: 2 ** -20,
  });
  expect(auditLogprobs(sampled, near, 1e-5).state).toBe('ok');
  expect(auditLogprobs(sampled, near, 1e-7).state).toBe('failed');
});

test('values that are not finite, missing sequences and missing tokens never pass the log-probability check', () => {
  expect(auditLogprobs([[Number.NaN]], [[Number.NaN]], 1)).toMatchObject({
    state: 'failed',
    largestDifference: Infinity,
  });
  expect(auditLogprobs([[-Infinity]], [[-Infinity]]).state).toBe('failed');
  expect(auditLogprobs([[-1]], [[-1], [-1]], 1).state).toBe('failed');
  expect(auditLogprobs([[-1, -1]], [[-1]], 1).state).toBe('failed');
  expect(auditLogprobs([], []).state).toBe('failed');
});

test('filters and temperature 0 are refused by name where the loss has a ratio', () => {
  const state = (options: Partial<Parameters<typeof auditSampling>[0]>, ratio = true): string =>
    auditSampling({ temperature: 1, ...options }, ratio).state;
  expect([state({}), state({ topP: 1, topK: 0, minP: 0 }), state({ temperature: 0.7 })]).toEqual([
    'ok',
    'ok',
    'ok',
  ]);
  expect([state({ topP: 0.9 }), state({ topK: 20 }), state({ minP: 0.1 })]).toEqual([
    'failed',
    'failed',
    'failed',
  ]);
  expect(state({ topP: 0.9 }, false)).toBe('warning');
  expect([state({ temperature: 0 }, false), state({ temperature: Number.NaN })]).toEqual([
    'failed',
    'failed',
  ]);
  expect(auditSampling({ temperature: 1, topP: 0.9, minP: 0.1 }, true).detail).toMatch(
    /got --top-p 0.9, --min-p 0.1/,
  );
});

test('an option that the engine ignores is refused by name; an ignored seed is a warning', () => {
  expect(auditOptions(['topK'], ['seed', 'temperature']).state).toBe('ok');
  expect(auditOptions(['maxGradNorm', 'seed'], ['seed', 'maxGradNorm'])).toMatchObject({
    state: 'failed',
    detail: expect.stringContaining('honours seed, maxGradNorm'),
  });
  expect(auditOptions(['seed'], ['seed']).state).toBe('warning');
});

test('ids of failures and problems are unique, and every group has G members', () => {
  const failures = [
    { id: 'a#0', problem: { id: 'a' } },
    { id: 'a#1', problem: { id: 'a' } },
  ];
  const groups = [{ id: 'a#0', size: 4 }];
  expect(auditGroups(failures, groups, 4).state).toBe('ok');
  expect(auditGroups(failures, groups, 8).detail).toBe('group a#0: expected 8 reflections, got 4');
  expect(auditGroups([...failures, failures[0]!], groups, 4).detail).toMatch(
    /^failure a#0: expected an id of its own/,
  );
  const other = { id: 'a#2', problem: { id: 'a', target: 4 } };
  expect(auditGroups([...failures, other], groups, 4).detail).toMatch(
    /^problem a: expected one problem of this id/,
  );
});

test('a gradient where there should be none, none where there should be one, and one left over are refused', () => {
  const none = { w: 0, b: 0 };
  const one = { w: 3, b: 4 };
  const good = { before: none, zero: none, one, followed: one, after: none };
  const check = (changes: Partial<typeof good>): string => auditGradient({ ...good, ...changes }).detail;
  expect(check({})).toBe('norm 5.00 from one trained token, none from the others');
  expect(auditGradient({ ...good, followed: null }).state).toBe('ok');
  expect(check({ before: one })).toMatch(/^expected no accumulated gradient before training, got norm 5/);
  expect(check({ zero: one })).toMatch(/^a loss without derivative: expected no gradient, got norm 5/);
  expect(check({ one: none })).toMatch(
    /^a loss on one token: expected a finite gradient above 0, got norm 0/,
  );
  expect(check({ one: { w: Number.NaN, b: 0 } })).toMatch(/got norm NaN/);
  expect(check({ followed: { w: 3, b: 4.1 } })).toMatch(
    /^b: expected the same gradient with untrained tokens behind/,
  );
  expect(check({ after: one })).toMatch(/^expected no gradient left/);
});

test('a template is judged by the conversations of the run', () => {
  const facts = {
    prefixPreserving: true,
    takesSystem: false,
    keepsThinking: true,
    detail: 'With a system message: lost',
  };
  expect(auditTemplate(facts, false, undefined)).toEqual({
    name: 'template',
    state: 'ok',
    detail: 'earlier turns stay as they are; not with a system message, which this run has not',
  });
  expect(auditTemplate(facts, true, undefined)).toMatchObject({
    state: 'failed',
    detail: expect.stringMatching(/^With a system/),
  });
  expect(auditTemplate(facts, false, 'turn 2 changed')).toMatchObject({
    state: 'failed',
    detail: 'turn 2 changed',
  });
  const thinking = { ...facts, prefixPreserving: false };
  expect(auditTemplate(thinking, false, undefined).state).toBe('ok');
  expect(auditTemplate({ ...thinking, keepsThinking: false }, false, undefined).state).toBe('failed');
});
