/** Made-up runs for the tests of the report: a quick start's, one of `r3 eval`, one without anything. */
import type { BeforeAfter, EvaluationDetails, EvaluationRates } from '../../method/controls.ts';
import type { EvaluationFile, MeasurementSummary } from '../../method/evaluation-summary.ts';
import type { PairedDifference, Rate } from '../../method/statistics.ts';
import type { ReportRun } from './data.ts';
import { makeDigester } from './digest.ts';
import { quickstartResults, type QuickstartResults } from './results.ts';

export function rate(passes: number, n: number): Rate {
  if (n === 0) return { rate: Number.NaN, low: 0, high: 1, n };
  return { rate: passes / n, low: Math.max(0, passes / n - 0.03), high: Math.min(1, passes / n + 0.03), n };
}

const NOT_MEASURED = rate(0, 0);

function ratesOf(first: number, second: number): EvaluationRates {
  return {
    firstTry: rate(first, 200),
    secondTry: rate(second, 200),
    secondTryWithoutReflection: rate(120, 200),
    afterFixedText: rate(110, 200),
    afterForeignReflection: rate(100, 200),
    twoIndependent: rate(130, 200),
    independentAtEqualTokens: NOT_MEASURED,
  };
}

export const details: EvaluationDetails = {
  afterForcedBeginning: NOT_MEASURED,
  afterEmptyReflection: NOT_MEASURED,
  attemptsAtEqualTokens: 3,
  passAtK: [],
  meanTokens: { attempt: 8, twoTries: 40 },
};

function difference(diff: number): { diff: number; low: number; high: number } {
  return { diff, low: diff - 0.02, high: diff + 0.02 };
}

const summary: BeforeAfter = {
  seed: 7,
  wallSeconds: 147.3,
  kernels: 'reference',
  n: 200,
  temperature: 0.9,
  before: ratesOf(100, 140),
  after: ratesOf(104, 176),
  greedy: { before: ratesOf(110, 141), after: ratesOf(108, 183) },
  writerByReader: {
    startStart: rate(33, 100),
    startTrained: rate(35, 100),
    trainedStart: rate(65, 100),
    trainedTrained: NOT_MEASURED,
  },
  change: {
    secondTry: difference(0.18),
    greedySecondTry: difference(0.21),
    firstTry: difference(0.01),
    writtenByTrained: difference(0.32),
    overTwoIndependent: difference(-0.16),
    overFixedText: { diff: Number.NaN, low: -1, high: 1 },
  },
  details: {
    before: details,
    after: details,
    greedy: { before: details, after: details },
    greedyFirstTry: difference(0),
  },
};

export const quickstart: QuickstartResults = {
  summary,
  profile: {
    before: { kinds: { vague: 0.75, step: 0.25 }, meanTokens: 3.5, trueHints: 0.125, trueOfHints: 0.625 },
    after: { kinds: { search: 1 }, meanTokens: 30.25, trueHints: 0.375, trueOfHints: 0.4375 },
  },
  lastSteps: { kl: 0.1234, withoutSignal: 0.0625 },
  forcedBeginning: 'try',
};

function paired(diff: number): PairedDifference {
  return { ...difference(diff), n: 200, mcnemar: { b: 40, c: 4, p: 0.00003 } };
}

function measurement(second: number, seed: number, temperature: number): MeasurementSummary {
  return {
    ...ratesOf(100, second),
    ...details,
    seed,
    temperature,
    rescue: {},
    lift: { secondTryWithoutReflection: paired(0.125) },
    classes: { firstTry: { passed: 100, 'missed target': 100 }, secondTry: { passed: 70, 'cut off': 30 } },
    reflections: {
      count: 100,
      tokens: { mean: 12.5, median: 11, max: 96 },
      cutOff: 0.03,
      scripts: { Latin: 0.98, CJK: 0.02 },
      mixedScripts: 0.01,
      repetition: 0.05,
      leaked: rate(7, 100),
      kinds: {},
      trueHints: Number.NaN,
      trueOfHints: Number.NaN,
    },
    notScored: { counts: {}, reasons: [] },
  };
}

const spread = { mean: 0.88, min: 0.87, max: 0.89, standardError: 0.01, low: 0.85, high: 0.91, seeds: 2 };

/** Two seeds, with a start model. */
export const evaluationFile: EvaluationFile = {
  version: 1,
  task: 'countdown',
  prompts: 'short',
  n: 200,
  trained: 0,
  temperature: 0.9,
  seeds: [1, 2],
  controls: ['secondTryWithoutReflection'],
  kernels: 'reference',
  model: {
    directory: 'trained',
    hash: 'b',
    sampled: [measurement(176, 1, 0.9), measurement(174, 2, 0.9)],
    greedy: measurement(183, 0, 0),
    overSeeds: { rates: { secondTry: spread }, lift: {} },
  },
  start: {
    directory: 'start',
    hash: 'a',
    sampled: [measurement(140, 1, 0.9), measurement(141, 2, 0.9)],
    greedy: measurement(141, 0, 0),
    overSeeds: { rates: { secondTry: { ...spread, mean: 0.71, low: 0.68, high: 0.72 } }, lift: {} },
  },
  change: {
    sampled: [{ secondTry: paired(0.18) }, { secondTry: paired(0.165) }],
    greedy: { secondTry: paired(0.21) },
    overSeeds: { secondTry: { ...spread, mean: 0.17, min: 0.165, max: 0.18, low: 0.15, high: 0.19 } },
    writerByReader: [
      { ...summary.writerByReader, writtenByTrained: paired(0.32) },
      { ...summary.writerByReader, writtenByTrained: paired(0.3) },
    ],
    kl: [0.12, 0.13],
    forcedBeginning: ['try', 'try'],
  },
  warnings: [],
};

/** Twenty steps. */
export const rows = Array.from({ length: 20 }, (_, i) => ({
  step: i + 1,
  reward: i / 20,
  'groups/mixed': 0.8,
  'groups/allPass': 0.1,
  'groups/allFail': 0.1,
  'completions/mean_length': 10 + i,
  kl: i / 100,
  'kind/vague': 1 - i / 20,
  ...(i > 0 ? { 'kind/search': i / 20 } : {}),
}));

export function emptyRun(name = 'x'): ReportRun {
  return {
    name,
    config: { version: 1 },
    sources: {},
    environment: [],
    rows: [],
    results: null,
    digest: makeDigester([]).digest,
    warnings: [],
    episodes: [],
  };
}

/** A run with something in every section, and `text` wherever a model, a task, a person or a file may write. */
export function fullRun(text: string): ReportRun {
  const wrong = { ok: false as const, class: 'wrong', why: text };
  const episode = {
    id: text,
    label: text,
    problem: text,
    attempt: text,
    attemptScore: wrong,
    reflection: text,
    kind: text,
    retry: text,
    advantage: 0.5,
    tokens: {
      turns: [
        {
          turn: 'reflection' as const,
          trained: true,
          texts: [text, 'two'],
          logprobs: [-1, -0.25],
          referenceLogprobs: [-1.5, -0.125],
        },
        { turn: 'retry' as const, trained: false, texts: [text], logprobs: [-2] },
      ],
    },
  };
  const results = quickstartResults({
    ...quickstart,
    summary: { ...summary, kernels: text },
    profile: { ...quickstart.profile, after: { ...quickstart.profile.after, kinds: { [text]: 1 } } },
    forcedBeginning: text,
  });
  return {
    name: text,
    config: { version: 1, note: text, train: { seed: 1 } },
    sources: { note: text },
    environment: [['kernels', text]],
    rows: rows.map((row) => ({ ...row, [`kind/${text}`]: 0, [`own/${text}`]: row.step })),
    results,
    digest: {
      steps: 10,
      before: { lengths: [1, 2, 3, 40], classes: { passed: 1, [`c ${text}`]: 3 } },
      after: { lengths: [10, 20, 30], classes: { passed: 4 } },
    },
    warnings: [text],
    episodes: [
      { ...episode, retryScore: { ok: true } },
      { ...episode, retry: null, retryScore: null, tokens: { turns: [], why: text } },
      { ...episode, retryScore: { error: text }, advantage: -1 },
    ],
  };
}
