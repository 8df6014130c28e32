import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { anyText } from '../../lib/text-testing.ts';
import { evaluationTables } from '../evaluation-tables.ts';
import { rateRows } from '../result-rows.ts';
import { sideBySideTable } from './compare.ts';
import { makeDigester } from './digest.ts';
import { renderMarkdown } from './markdown.ts';
import { renderReport } from './page.ts';
import { evaluationResults, quickstartResults, type QuickstartResults } from './results.ts';
import { details, emptyRun, evaluationFile, fullRun, quickstart, rate, rows } from './testing.ts';

/** Start and end tags, in order. Attribute values may hold `>` only when escaped, so this is exact for our pages. */
function tagsOf(page: string): string[] {
  return [...page.matchAll(/<[^>]*>/g)].map(([tag]) => (/^<\/?[a-z!][^\s>]*/i.exec(tag) ?? ['?'])[0]);
}

const hostile = fc.oneof(
  anyText({ minLength: 1 }),
  fc.constantFrom(
    '</pre><script>alert(1)</script>',
    '"><img src=x onerror=a()>',
    "' onload='x",
    '<!--',
    '&lt;b&gt;',
    ']]>',
    '| a | b |\n| --- |',
    '[x](y) `z` **w**',
    'abc\u202edef',
  ),
);

test('no text that a model, a task or a config holds makes or ends a tag', () => {
  const expected = tagsOf(renderReport([fullRun('word')]));
  fc.assert(
    fc.property(hostile, (text) => {
      const page = renderReport([fullRun(text)]);
      // A text of white space alone is shown as "empty".
      if (text.trim() !== '') expect(tagsOf(page)).toEqual(expected);
      expect(page).not.toContain('<script');
      expect(page).not.toContain('<img');
      expect(page).not.toMatch(/[\u202a-\u202e\u2066-\u2069]/);
    }),
    { numRuns: 30 },
  );
});

test('no text makes a row, a column or a mark of the Markdown', () => {
  const shape = (text: string): number[] =>
    renderMarkdown([fullRun(text)])
      .split('\n')
      .map((line) => line.replaceAll(String.raw`\|`, '').split('|').length);
  const expected = shape('word');
  fc.assert(
    fc.property(hostile, (text) => {
      if (text.trim() !== '') expect(shape(text)).toEqual(expected);
      expect(renderMarkdown([fullRun(text)])).not.toContain('<');
    }),
    { numRuns: 30 },
  );
});

test('the page asks for nothing: no script, link, source, import or address', () => {
  for (const page of [renderReport([fullRun('word')]), renderReport([fullRun('one'), fullRun('two')])]) {
    expect(page).not.toMatch(/<script|<link|<iframe|<object|src=|href=|url\(|@import|https?:/i);
    expect(page).toContain(`content="default-src 'none';style-src 'unsafe-inline'"`);
  }
});

test('the headline shows before, after and the interval, in percent', () => {
  const page = renderReport([fullRun('word')]);
  expect(page).toContain('70.0 →</span> 88.0<small>%</small>');
  expect(page).toContain('+18.0 points, 95% interval +16.0 to +20.0');
  expect(page).toContain('2 min 27 s');
  expect(page).toContain('−16.0');
});

test('what was not measured is a dash, also when JSON made its NaN null', () => {
  const unmeasured: QuickstartResults = { ...quickstart, lastSteps: { kl: Number.NaN, withoutSignal: 0 } };
  for (const source of [unmeasured, JSON.parse(JSON.stringify(unmeasured)) as QuickstartResults]) {
    const page = renderReport([{ ...emptyRun(), results: quickstartResults(source) }]);
    expect(cellsOf(page)('KL to the start model, nats per token, last steps')).toEqual(['0', '–']);
  }
  const parsed = JSON.parse(JSON.stringify(quickstart)) as QuickstartResults;
  for (const source of [quickstart, parsed]) {
    const page = renderReport([{ ...emptyRun(), results: quickstartResults(source) }]);
    expect(page).toMatch(/trained model<\/th><td>65\.0.*<td class="none">–<\/td><\/tr>/);
    expect(page).toContain('after a fixed text, after</th><td class="none">–</td><td class="none">–</td>');
    expect(page).not.toMatch(/NaN|null|undefined|Infinity/);
  }
});

/** The texts of the cells of each row, by the row's label. */
function cellsOf(page: string): (label: string) => string[] {
  const found = page.matchAll(/<tr[^>]*><th scope="row">(.*?)<\/th>(.*?)<\/tr>/g);
  const cells = new Map(
    [...found].map(
      ([, label = '', row = '']) =>
        [label.replaceAll('&#39;', "'"), row.replaceAll(/<[^>]*>/g, ' ')] as const,
    ),
  );
  return (label) => (cells.get(label) ?? '').split(' ').filter((text) => text !== '');
}

test('the page says of the reflections, the controls and the costs what the tables of the terminal say', () => {
  const forced = {
    ...details,
    afterForcedBeginning: rate(90, 200),
    independentAtEqualTokens: rate(100, 200),
  };
  const { summary } = quickstart;
  const results = quickstartResults({
    ...quickstart,
    summary: { ...summary, details: { ...summary.details, before: forced } },
  });
  const page = renderReport([{ ...emptyRun(), results, warnings: ['far < near'] }]);
  const texts = cellsOf(page);
  expect(texts('second try, forced beginning').slice(0, 2)).toEqual(['45.0', '42.0']);
  expect(texts('how many tries those are')).toEqual(['3', '–', '–', '–']);
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
    expect(texts(label).length, label).toBeGreaterThan(0);
});

test('an evaluation of several seeds shows their means beside the tables of all that r3 eval prints', () => {
  const results = evaluationResults(evaluationFile, {});
  const tables = evaluationTables(evaluationFile);
  const texts = (text: string): string =>
    text
      .replaceAll(/<[^>]*>/g, ' ')
      .replaceAll('&#39;', "'")
      .replaceAll('&quot;', '"')
      .replaceAll('&lt;', '<');
  const page = texts(renderReport([{ ...emptyRun(), results }]));
  expect(page).toContain('71.0 →  88.0 %');
  expect(page).toContain('+17.0 points, 95% interval +15.0 to +19.0');
  expect(page).toContain('means over the seeds 1, 2');
  expect(tables.length).toBeGreaterThan(4);
  for (const { title, rows: all } of tables) {
    expect(page, title).toContain(title);
    for (const cell of all.flat()) expect(page, title).toContain(cell);
  }
});

test('an evaluation without a start model shows one model, and compares nothing', () => {
  const { secondTry } = evaluationFile.model.greedy;
  const results = evaluationResults({ ...evaluationFile, start: null, change: null }, {});
  expect(results.columns.map(({ name }) => name)).toEqual(['now', 'now']);
  expect(results.rates.every(({ cells }) => cells.length === 2)).toBe(true);
  expect(results.figures[1]).toEqual({
    label: 'Second try, greedy',
    from: null,
    to: secondTry.rate,
    interval: secondTry,
    change: null,
  });
  const page = renderReport([{ ...emptyRun(), results }]);
  expect(page).not.toMatch(/→|NaN|undefined|<th scope="col">before/);
});

test('an interval that contains 0 says so', () => {
  const page = renderReport([{ ...emptyRun(), results: quickstartResults(quickstart) }]);
  expect(page).toMatch(/<tr class="open"><th scope="row">first try[^\n]*contains 0/);
  expect(page).not.toMatch(/<tr class="open"><th scope="row">second try, after minus/);
});

test('a run without rows, evaluation and episodes has a page and Markdown', () => {
  const page = renderReport([emptyRun()]);
  expect(page).toContain('0 steps · not yet evaluated');
  expect(page).not.toContain('<svg');
  expect(renderMarkdown([emptyRun()])).toContain('# x\n\n0 steps · not yet evaluated\n');
});

test('a run that was only trained shows its seed, its kernels and its warnings', () => {
  const config = { kernels: 'native avx2', train: { seed: 41 } };
  const page = renderReport([{ ...emptyRun(), config, rows, warnings: ['far'] }]);
  expect(page).toContain('20 steps · not yet evaluated · seed 41 · native avx2</p>');
  expect(page).toContain('<p class="warning"><strong>Warning:</strong> far</p>');
});

test('values that are no finite numbers are left out of the curves', () => {
  const broken = rows.map((row) => ({
    ...row,
    reward: Number.NaN,
    kl: null,
    'groups/mixed': 'x',
    own: 1 / 0,
  }));
  const page = renderReport([{ ...emptyRun(), rows: broken }]);
  expect(page).toContain('>Reflection length<');
  expect(page).not.toContain('>Reward<');
  expect(page).not.toMatch(/NaN|null|undefined|Infinity/);
});

test('a run of one step has charts without NaN', () => {
  const page = renderReport([{ ...emptyRun(), rows: rows.slice(0, 1) }]);
  // The stacked chart is there twice: for wide and for narrow screens.
  expect(page.match(/<svg/g)).toHaveLength(6);
  expect(page).not.toMatch(/NaN|Infinity/);
});

test('every chart has a title, a description that ids name, and no two have the same', () => {
  const pages = [renderReport([fullRun('word')]), renderReport([fullRun('one'), fullRun('two')])];
  for (const page of pages) {
    const named = [...page.matchAll(/aria-labelledby="([^ ]+) ([^"]+)"/g)];
    expect(named.length).toBeGreaterThan(7);
    for (const [, title, description] of named) {
      expect(page.split(`<title id="${title}">`), title).toHaveLength(2);
      expect(page.split(`<desc id="${description}">`), description).toHaveLength(2);
    }
    expect(page.match(/<caption>/g)?.length).toBe(page.match(/<table/g)?.length);
  }
});

test('a long text is cut with a note', () => {
  const page = renderReport([fullRun('a'.repeat(4321))]);
  expect(page).toContain('and 321 more characters');
});

test('each token says whether it was trained, its advantage and its change from the start model', () => {
  const page = renderReport([fullRun('word')]);
  expect(page).toContain(
    '<span class="token up" title="reflection token 1: trained, advantage +0.50; log-probability −1.00; start model −1.50, change +0.50">word</span>',
  );
  expect(page).toContain('<span class="token down" title="reflection token 2: trained, advantage −1.00;');
  expect(page).toContain(
    '<span class="token" title="retry token 1: not trained; log-probability −2.00">word</span>',
  );
  expect(page).toContain('Token by token: word</p>');
  const [first] = fullRun('word').episodes;
  const turns = first!.tokens.turns.map((turn) => ({ ...turn, referenceLogprobs: undefined }));
  const without = renderReport([{ ...emptyRun(), episodes: [{ ...first!, tokens: { turns } }] }]);
  expect(without).toContain('the run holds no log-probabilities of the start model for them');
  expect(without).not.toMatch(/NaN|undefined/);
});

test('each option has its source, by its path or by its name on the command line', () => {
  const config = {
    train: {
      steps: 3,
      reflectionsPerFailure: 8,
      adam: { beta1: 0.9 },
      advantages: { estimator: 'rloo' },
      firstAttempts: 'frozen',
    },
    sampling: { maxAttemptTokens: 64 },
    model: { hash: 'aa' },
    dtype: 'f32',
  };
  const sources = {
    steps: 'given',
    'num-generations': 'paper, stated',
    'adam-beta1': 'default',
    dtype: 'flag',
    'advantage-estimator': 'given',
  };
  const texts = cellsOf(renderReport([{ ...emptyRun(), config, sources }]));
  expect(texts('train.steps')).toEqual(['3', 'given']);
  expect(texts('train.reflectionsPerFailure')).toEqual(['8', 'paper,', 'stated']);
  expect(texts('train.adam.beta1')).toEqual(['0.9', 'default']);
  expect(texts('train.advantages.estimator')).toEqual(['rloo', 'given']);
  // Options that have no value unless they are given.
  expect(texts('train.firstAttempts')).toEqual(['frozen', 'default']);
  expect(texts('sampling.maxAttemptTokens')).toEqual(['64', 'default']);
  // No option.
  expect(texts('model.hash')).toEqual(['aa', '–']);
  expect(texts('dtype')).toEqual(['f32', 'flag']);
});

test('several runs stand side by side, with a spread over those that differ in the seed alone', () => {
  const run = (name: string, seed: number, beta: number, last: number) => ({
    ...emptyRun(name),
    config: { train: { seed, beta } },
    rows: [{ step: 0, reward: 0 }, ...Array.from({ length: 10 }, (_, i) => ({ step: i + 1, reward: last }))],
  });
  const runs = [run('a', 1, 0.1, 0.5), run('b', 2, 0.1, 0.75), run('c', 1, 0.2, 0.25)];
  for (const text of [renderReport(runs), renderMarkdown(runs)]) {
    expect(text).toContain('mean of A, B, least to most');
    expect(text.replaceAll(/<[^>]*>/g, ' ')).toMatch(
      /Reward in training\W+50\.0\W+75\.0\W+25\.0\W+62\.5\W+50\.0 to 75\.0/,
    );
    expect(text).toContain('train.beta');
  }
  const page = renderReport(runs);
  expect(page).toContain('First to last step: A from 0% to 50%, B from 0% to 75%, C from 0% to 25%.');
  const different = renderReport([runs[0]!, runs[2]!]);
  expect(different).toContain('No two runs differ in the seed alone');
});

test('runs that were evaluated stand side by side with intervals and controls', () => {
  const evaluated = { ...emptyRun('a'), results: evaluationResults(evaluationFile, {}) };
  const compared = { ...emptyRun('b'), results: quickstartResults(quickstart) };
  const table = sideBySideTable([evaluated, compared, emptyRun('c')]);
  const cellsAt = (label: string) => table.rows.find((row) => row.label === label)?.cells.slice(0, 3);
  expect(cellsAt('Second try, after its own reflection')).toEqual([
    expect.objectContaining({ note: expect.stringMatching(/^\d+\.\d to \d+\.\d$/) }),
    { text: '88.0', note: '85.0 to 91.0' },
    '–',
  ]);
  expect(cellsAt('First try: change by training')?.[1]).toEqual({ text: '+1.0', note: '−1.0 to +3.0' });
  // Of the quick start it is the number after training.
  expect(cellsAt('second try, no reflection')?.[1]).toEqual({ text: '60.0', note: '57.0 to 63.0' });
});

test('a digest holds the lengths and classes of the first and the last steps and of no other', () => {
  const steps = Array.from({ length: 30 }, (_, step) => step);
  const digester = makeDigester(steps);
  const written = (count: number) => ({
    tokens: Array.from({ length: count }, () => 1),
    logprobs: [],
    text: '',
    stopReason: 'stop' as const,
  });
  const episode = {
    version: 1 as const,
    group: 'g',
    index: 0,
    problem: { id: 'p' },
    attempt: written(1),
    attemptScore: null,
    reward: null,
    advantage: null,
  };
  for (const step of steps) {
    digester.add({ ...episode, step, reflection: written(step), retry: written(1), score: { ok: true } });
    digester.add({ ...episode, step, reflection: written(step), retry: null, score: null });
  }
  const { before, after } = digester.digest;
  expect(digester.digest.steps).toBe(10);
  expect(before).toEqual({
    lengths: steps.slice(0, 10).flatMap((step) => [step, step]),
    classes: { passed: 10, 'no retry': 10 },
  });
  expect(after.lengths).toEqual(steps.slice(20).flatMap((step) => [step, step]));
  expect(makeDigester([0]).digest.steps).toBe(0);
});
