import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { anyText } from '../lib/text-testing.ts';
import type { BeforeAfter, EvaluationDetails, EvaluationRates } from '../method/controls.ts';
import { wilson } from '../method/statistics.ts';
import { coloursByName, escapeText, niceTicks, smooth, spread, stackedChart } from './charts.ts';
import { rateRows } from './result-rows.ts';
import { renderKindsChart, renderReport } from './report.ts';
import type { ReportData, ReportEvaluation } from './report.ts';

const nothing = wilson(0, 0);

function ratesOf(first: number, second: number): EvaluationRates {
  return {
    firstTry: wilson(first, 200),
    secondTry: wilson(second, 200),
    secondTryWithoutReflection: wilson(120, 200),
    afterFixedText: wilson(110, 200),
    afterForeignReflection: wilson(100, 200),
    twoIndependent: wilson(130, 200),
    independentAtEqualTokens: nothing,
  };
}

const details: EvaluationDetails = {
  afterForcedBeginning: nothing,
  afterEmptyReflection: nothing,
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
    startStart: wilson(33, 100),
    startTrained: wilson(35, 100),
    trainedStart: wilson(65, 100),
    trainedTrained: nothing,
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

const evaluation: ReportEvaluation = {
  summary,
  profile: {
    before: { kinds: { vague: 0.75, step: 0.25 }, meanTokens: 3.5, trueHints: 0.125, trueOfHints: 0.625 },
    after: { kinds: { search: 1 }, meanTokens: 30.25, trueHints: 0.375, trueOfHints: 0.4375 },
  },
  lastSteps: { kl: 0.1234, withoutSignal: 0.0625 },
  forcedBeginning: 'try',
};

const rows = Array.from({ length: 20 }, (_, i) => ({
  step: i + 1,
  reward: i / 20,
  'groups/mixed': 0.8,
  'groups/allPass': 0.1,
  'groups/allFail': 0.1,
  'reflection/meanLength': 10 + i,
  kl: i / 100,
  'kind/vague': 1 - i / 20,
  ...(i > 0 ? { 'kind/search': i / 20 } : {}),
}));

function dataWith(text: string): ReportData {
  const wrong = { ok: false as const, class: 'wrong', why: text };
  const episode = {
    id: text,
    problem: text,
    attempt: text,
    attemptScore: wrong,
    reflection: text,
    kind: text,
    retry: text,
  };
  return {
    name: text,
    config: { version: 1, note: text },
    rows: rows.map((row) => ({ ...row, [`kind/${text}`]: 0 })),
    evaluation: {
      ...evaluation,
      summary: { ...summary, kernels: text },
      profile: { ...evaluation.profile, after: { ...evaluation.profile.after, kinds: { [text]: 1 } } },
      forcedBeginning: text,
    },
    warnings: [text],
    episodes: [
      { ...episode, retryScore: { ok: true } },
      { ...episode, retry: null, retryScore: null },
      { ...episode, retryScore: { error: text } },
    ],
  };
}

/** Start and end tags, in order. Attribute values may hold `>` only when escaped, so this is exact for our pages. */
function tagsOf(page: string): string[] {
  return [...page.matchAll(/<[^>]*>/g)].map(([tag]) => (/^<\/?[a-z!][^\s>]*/i.exec(tag) ?? ['?'])[0]);
}

test('no text that a model, a task or a config holds makes or ends a tag', () => {
  const expected = tagsOf(renderReport(dataWith('word')));
  const hostile = fc.oneof(
    anyText({ minLength: 1 }),
    fc.constantFrom(
      '</pre><script>alert(1)</script>',
      '"><img src=x onerror=a()>',
      "' onload='x",
      '<!--',
      '&lt;b&gt;',
      ']]>',
    ),
  );
  fc.assert(
    fc.property(hostile, (text) => {
      const page = renderReport(dataWith(text));
      // A text of white space alone is shown as "empty".
      if (text.trim() !== '') expect(tagsOf(page)).toEqual(expected);
      expect(page).not.toContain('<script');
      expect(page).not.toContain('<img');
    }),
    { numRuns: 30 },
  );
});

test('the page asks for nothing: no script, link, source, import or address', () => {
  const page = renderReport(dataWith('word'));
  expect(page).not.toMatch(/<script|<link|<iframe|<object|src=|href=|url\(|@import|https?:/i);
  expect(page).toContain(`content="default-src 'none';style-src 'unsafe-inline'"`);
});

test('the headline shows before, after and the interval, in percent', () => {
  const page = renderReport(dataWith('word'));
  expect(page).toContain('70.0 →</span> 88.0<small>%</small>');
  expect(page).toContain('+18.0 points, 95% interval +16.0 to +20.0');
  expect(page).toContain('2 min 27 s');
  expect(page).toContain('−16.0');
});

test('what was not measured is a dash, also when JSON made its NaN null', () => {
  const parsed: ReportEvaluation = JSON.parse(JSON.stringify(evaluation));
  for (const source of [evaluation, parsed]) {
    const page = renderReport({
      name: 'x',
      config: {},
      rows: [],
      evaluation: source,
      warnings: [],
      episodes: [],
    });
    expect(page).toMatch(/trained model<\/th><td>65\.0.*<td class="none">–<\/td><\/tr>/);
    expect(page).toContain('after a fixed text, after</th><td class="none">–</td><td class="none">–</td>');
    expect(page).not.toMatch(/NaN|null|undefined|Infinity/);
  }
});

test('the page says of the reflections, the controls and the costs what the tables of the terminal say', () => {
  const forced = { ...details, afterForcedBeginning: wilson(90, 200) };
  const page = renderReport({
    name: 'x',
    config: {},
    rows: [],
    evaluation: { ...evaluation, summary: { ...summary, details: { ...summary.details, before: forced } } },
    warnings: ['far < near'],
    episodes: [],
  });
  const rowsOf = page.matchAll(/<tr[^>]*><th scope="row">(.*?)<\/th>(.*?)<\/tr>/g);
  const cells = new Map(
    [...rowsOf].map(([, label = '', row = '']) => [label, row.replaceAll(/<[^>]*>/g, ' ')]),
  );
  const texts = (label: string): string[] =>
    (cells.get(label) ?? '').split(' ').filter((text) => text !== '');
  expect(texts('second try, forced beginning').slice(0, 2)).toEqual(['45.0', '38.3']);
  expect(texts('how many tries those are')).toEqual(['3', '3', '3', '3']);
  expect(texts('tokens of both tries')).toEqual(['40.0', '40.0', '40.0', '40.0']);
  expect(texts('vague')).toEqual(['75.0%', '0.0%']);
  expect(texts('search')).toEqual(['0.0%', '100.0%']);
  expect(texts('with a true hint')).toEqual(['12.5%', '37.5%']);
  expect(texts('true, of those that hint')).toEqual(['62.5%', '43.8%']);
  expect(texts('mean length, tokens')).toEqual(['3.5', '30.3']);
  expect(texts('KL to the start model, nats per token, last steps')).toEqual(['0', '0.123']);
  expect(texts('groups without signal, last steps')).toEqual(['6.3%']);
  expect(page).toContain('begin with: try</p>');
  expect(page).toContain('</strong> far &lt; near</p>');
  for (const { label } of rateRows([{ ...summary.before, ...forced }]))
    expect(cells.has(label), label).toBe(true);
});

test('an interval that contains 0 says so', () => {
  const page = renderReport({ name: 'x', config: {}, rows: [], evaluation, warnings: [], episodes: [] });
  expect(page).toMatch(/<tr class="open"><th scope="row">first try[^\n]*contains 0/);
  expect(page).not.toMatch(/<tr class="open"><th scope="row">second try, after minus/);
});

test('a run without rows, evaluation and episodes has a page', () => {
  const page = renderReport({
    name: 'x',
    config: { version: 1 },
    rows: [],
    evaluation: null,
    warnings: [],
    episodes: [],
  });
  expect(page).toContain('not yet evaluated');
  expect(page).not.toContain('<svg');
});

test('a run that was only trained shows its seed, its kernels and its warnings', () => {
  const config = { kernels: 'native avx2', train: { seed: 41 } };
  const page = renderReport({ name: 'x', config, rows, evaluation: null, warnings: ['far'], episodes: [] });
  expect(page).toContain('20 steps · not yet evaluated · seed 41 · native avx2</p>');
  expect(page).toContain('<p class="warning"><strong>Warning:</strong> far</p>');
});

test('a run of one step has charts without NaN', () => {
  const page = renderReport({
    name: 'x',
    config: {},
    rows: rows.slice(0, 1),
    evaluation: null,
    warnings: [],
    episodes: [],
  });
  // The stacked chart is there twice: for wide and for narrow screens.
  expect(page.match(/<svg/g)).toHaveLength(6);
  expect(page).not.toMatch(/NaN|Infinity/);
});

test('every chart has a title, a description that ids name, and a table of the same numbers', () => {
  const page = renderReport(dataWith('word'));
  const named = [...page.matchAll(/aria-labelledby="([^ ]+) ([^"]+)"/g)];
  expect(named).toHaveLength(6);
  for (const [, title, description] of named) {
    expect(page.split(`<title id="${title}">`)).toHaveLength(2);
    expect(page.split(`<desc id="${description}">`)).toHaveLength(2);
  }
  expect(page.match(/The same as numbers/g)).toHaveLength(2);
  expect(page.match(/<caption>/g)?.length).toBe(page.match(/<table/g)?.length);
});

test('a long text is cut with a note', () => {
  const page = renderReport(dataWith('a'.repeat(4321)));
  expect(page).toContain('and 321 more characters');
});

test('the kinds chart stands alone, and what grew most lies at the bottom', () => {
  const chart = renderKindsChart(rows);
  expect(chart).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" width="920"/);
  expect(chart).toContain('prefers-color-scheme:dark');
  expect(chart).toContain('First to last step: vague from 100% to 5%, search from 0% to 95%.');
  // The first layer's area starts at the axis; the label order follows the layers.
  expect(chart.indexOf('>search<')).toBeLessThan(chart.indexOf('>vague<'));
});

test('the last step has a tick, and no other stands close to it', () => {
  const chart = renderKindsChart(Array.from({ length: 103 }, (_, step) => ({ step, 'kind/vague': 1 })));
  const ticks = [...chart.matchAll(/text-anchor="middle"[^>]*>([^<]*)</g)].map(([, text]) => text);
  expect(ticks).toEqual(['0', '20', '40', '60', '80', 'step 102']);
});

test('more kinds than colours are added up', () => {
  const many = [
    { step: 1, ...Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`kind/k${i}`, (9 - i) / 45])) },
  ];
  const chart = renderKindsChart(many);
  expect(chart).toContain('>k4<');
  expect(chart).not.toContain('>k5<');
  expect(chart).toContain('>all others<tspan dx="5" fill="var(--muted,#5a636e)">22%</tspan>');
});
