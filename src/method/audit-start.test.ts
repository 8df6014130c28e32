import { expect, test } from 'vitest';
import {
  auditDuplicates,
  auditKinds,
  auditRewards,
  auditSignal,
  auditStartRate,
  auditTruncation,
} from './audit-start.ts';

const mined = { attempts: 9, unscored: 0 };
const ended = { stopReason: 'stop' } as const;
const cut = { stopReason: 'length' } as const;

test('a start at which nothing or everything passes is refused, with examples', () => {
  expect(
    [auditStartRate(0, 9), auditStartRate(9, 9), auditStartRate(0, 0)].map(({ state }) => state),
  ).toEqual(['failed', 'failed', 'failed']);
  expect(auditStartRate(3, 9, ['unused'])).toEqual({
    name: 'start rate',
    state: 'ok',
    detail: '3 of 9 first tries passed',
  });
  expect(auditStartRate(0, 9, ['"2 + 2" answered "5"']).detail).toMatch(
    /how answers are read, such as "2 \+ 2" answered "5"$/,
  );
});

test('a scorer outage is refused, a few answers that were not judged are a warning', () => {
  expect(auditRewards([[0, 1]], mined).state).toBe('ok');
  expect(auditRewards([[0, null, 1]], mined).state).toBe('warning');
  expect(auditRewards([[0, null, null]], mined).state).toBe('failed');
  expect(auditRewards([[0, 1]], { attempts: 9, unscored: 5 }).state).toBe('failed');
});

test('rewards out of range are refused, rounding noise is named and is no signal', () => {
  for (const reward of [Number.NaN, Infinity, -0.1, 1.5])
    expect(auditRewards([[0, reward]], mined).state).toBe('failed');
  const noisy = [[0.1 + 0.2, 0.3]];
  expect(auditRewards(noisy, mined)).toMatchObject({
    state: 'warning',
    detail: expect.stringMatching(/rounding noise: group 0 has some that differ by 5\.5.*e-17/),
  });
  expect(auditSignal({ rewards_P_G: noisy, afterReflection: null, plain: null }).detail).toMatch(
    /^0 of 1 groups/,
  );
});

test('turns that are all cut off are refused, with the option to raise; most of them are a warning', () => {
  const check = (reflections: (typeof ended | typeof cut)[]): ReturnType<typeof auditTruncation> =>
    auditTruncation([
      { what: 'reflections', written: reflections, option: '--max-reflection-tokens' },
      { what: 'retries', written: [ended, ended], option: '--max-attempt-tokens' },
    ]);
  expect(check([ended, cut]).state).toBe('ok');
  expect(check([ended, cut, cut]).state).toBe('warning');
  expect(check([cut, cut])).toMatchObject({
    state: 'failed',
    detail: expect.stringMatching(/2 of 2 reflections, 0 of 2 retries: .* raise --max-reflection-tokens/),
  });
  expect(auditTruncation([{ what: 'retries', written: [], option: '' }]).state).toBe('ok');
});

test('siblings that are all the same in every group are refused', () => {
  const same = [[7], [7], [7], [7], [7]];
  expect(auditDuplicates([same, same])).toMatchObject({
    state: 'failed',
    detail: expect.stringContaining('8 of 10 siblings'),
  });
  expect(auditDuplicates([same, [[7], [7], [7], [7], [8]]]).state).toBe('ok');
  expect(auditDuplicates([[...same, [7], [7], [7], [8]]]).state).toBe('warning');
  expect(auditDuplicates([[[7]], [[7]]]).state).toBe('ok');
});

test('the signal says what to expect, and only a start at which nothing ever passes is refused', () => {
  const lift = { afterReflection: { passed: 31, of: 100 }, plain: { passed: 18, of: 100 } };
  const check = (rewards_P_G: (number | null)[][], other = lift): ReturnType<typeof auditSignal> =>
    auditSignal({ rewards_P_G, ...other });
  const none = [0, 0];
  const all = [1, 1];
  const some = [0, 1];
  expect(check([some, some, none])).toEqual({
    name: 'signal',
    state: 'ok',
    detail:
      '2 of 3 groups of 2 carry a signal (1 all fail, 0 all pass); a retry after a reflection passes in 31%, where a plain retry passes in 18%; expect reflections that help to be reinforced from the first steps on',
  });
  expect(check([none, none, none]).state).toBe('warning');
  expect(check([none, none, none, none])).toMatchObject({
    state: 'failed',
    detail: expect.stringMatching(/--num-generations 4/),
  });
  expect(check([none, none, none, [null, null]]).state).toBe('failed');
  expect(check([none, all])).toMatchObject({
    state: 'warning',
    detail: expect.stringMatching(/next to no learning/),
  });
  expect(check([all, all])).toMatchObject({
    state: 'warning',
    detail: expect.stringMatching(/harder problems/),
  });
  expect(check([some, none, none])).toMatchObject({
    state: 'warning',
    detail: expect.stringMatching(/easier problems/),
  });
  const worse = { afterReflection: lift.plain, plain: lift.afterReflection };
  expect(check([some], worse)).toMatchObject({
    state: 'warning',
    detail: expect.stringMatching(/expect little at first/),
  });
});

test('without a single judged episode the signal is not refused: the rewards are', () => {
  const check = auditSignal({ rewards_P_G: [[null, null]], afterReflection: null, plain: null });
  expect(check).toMatchObject({ state: 'warning', detail: expect.stringMatching(/1 not judged/) });
});

test('the rule of thumb asks for a kind that is common and passes twice as often as the rest', () => {
  const of = (kind: string, passed: number, failed: number): { kind: string; reward: number }[] => [
    ...Array.from({ length: passed }, () => ({ kind, reward: 1 })),
    ...Array.from({ length: failed }, () => ({ kind, reward: 0 })),
  ];
  expect(auditKinds([{ reward: 1 }]).detail).toBe('the task tells no kinds of reflections');
  expect(auditKinds([...of('step', 4, 6), ...of('vague', 2, 18)])).toMatchObject({
    state: 'ok',
    detail:
      'share of reflections and their rate of passing: vague 67% and 10%, step 33% and 40%; step is worth choosing',
  });
  expect(auditKinds([...of('step', 2, 0), ...of('vague', 2, 18)])).toMatchObject({
    state: 'warning',
    detail: expect.stringMatching(/got none; step may be worth it, but must be found first$/),
  });
  expect(auditKinds([...of('step', 1, 1), ...of('vague', 1, 1)]).detail).toMatch(
    /there is no kind to choose yet$/,
  );
});
