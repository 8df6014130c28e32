import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { makeFakeEngine } from '../engine/fake.ts';
import { hash32 } from '../lib/rng.ts';
import { CONTROL_NAMES, type ControlName } from '../method/controls.ts';
import type { Problem } from '../method/episode.ts';
import type { EvaluationFile, MeasurementSummary } from '../method/evaluation-summary.ts';
import type { Task } from '../method/task.ts';
import { makePlayer, type Player } from '../player.ts';
import { START_MODEL } from '../quickstart.ts';
import { createEvaluation, openEvaluation, readEvaluation } from '../runs/evaluation.ts';
import { evaluationTables } from '../runs/evaluation-tables.ts';
import { countdown } from '../tasks/countdown.ts';
import { loadChatFormat } from '../text/chat.ts';
import { loadTokenizer } from '../text/tokenizer.ts';
import { contentOf, hashProblems, parseControls, parseSeeds, type EvaluationConfig } from './eval-config.ts';
import { countTrained, measureAll, type Players } from './eval.ts';
import { createRun } from '../runs/run.ts';
import { renderMarkdown, renderTable, widthOf } from './table.ts';
import { runInPlace } from './testing.ts';

const place = mkdtempSync(join(tmpdir(), 'r3-eval-'));
afterAll(() => rmSync(place, { recursive: true }));

const tokenizer = loadTokenizer(START_MODEL);
const [stop = 0] = loadChatFormat(START_MODEL, tokenizer).stopIds;
const ids = (text: string): number[] => [...tokenizer.encode(text), stop];
const prompts = countdown.prompts('short');
const MAX_REFLECTION = 12;
const TEMPERATURE = 0.5;
const watcher = { phase: () => undefined, update: () => undefined };
const problemsFrom = (first: number, count: number): { id: string; nums: number[]; target: number }[] =>
  Array.from({ length: count }, (_, i) => ({ id: `p${first + i}`, nums: [3, 2, 1], target: 7 }));

/** Passes by chance, more often after a reflection that begins with `liked`, which it writes always. */
function model(
  liked: string,
  task: Task = countdown,
): { playerAt: (temperature: number) => Player; sampled: () => number } {
  const likedId = tokenizer.encode(liked)[0] ?? 0;
  const engine = makeFakeEngine((prompt, index, seed) => {
    const text = tokenizer.decode([...prompt]);
    const draw = hash32(seed, index, prompt.length) % 4;
    if (text.includes('why') && !text.includes('again'))
      return draw === 0 ? Array.from({ length: MAX_REFLECTION }, () => likedId) : [likedId, stop];
    return ids(draw === 0 || (draw < 3 && prompt.includes(likedId)) ? '3 * 2 + 1' : '3 + 2 + 1');
  });
  return {
    playerAt: (temperature) =>
      makePlayer(engine, START_MODEL, task, prompts, {
        temperature,
        maxAttemptTokens: 20,
        maxReflectionTokens: MAX_REFLECTION,
      }),
    sampled: () => engine.calls.samples.length,
  };
}

interface Setup {
  seeds?: number[];
  controls?: ControlName[];
  problems?: ReturnType<typeof problemsFrom>;
  start?: Players['start'];
}

function configOf({
  seeds = [1],
  controls = [...CONTROL_NAMES],
  problems = [],
  start = null,
}: Setup): EvaluationConfig {
  const named = { directory: 'models/start', hash: 'aa' };
  return {
    version: 1,
    command: 'eval',
    task: 'countdown',
    taskFile: null,
    prompts: { ...prompts },
    engine: 'local',
    url: null,
    texts: null,
    model: named,
    start: start === null ? null : named,
    problems: {
      file: 'p.jsonl',
      limit: null,
      count: problems.length,
      hash: hashProblems(problems),
      trained: 0,
    },
    dtype: 'f32',
    context: null,
    kernels: 'fake',
    sampling: { temperature: TEMPERATURE, maxAttemptTokens: 20, maxReflectionTokens: MAX_REFLECTION },
    seeds,
    controls,
    fixedText: 'be careful',
    run: null,
  };
}

/** Measures into a folder, which may hold a part of it, and gives the summary. */
async function measureInto(
  directory: string,
  players: Players,
  setup: Setup,
  resumes = false,
): Promise<EvaluationFile> {
  const config = configOf(setup);
  const folder = resumes ? openEvaluation(directory) : createEvaluation(directory, config);
  try {
    const summary = await measureAll(config, folder, players, setup.problems ?? [], watcher);
    folder.writeSummary(summary);
    return summary;
  } finally {
    folder.close();
  }
}

const bytesOf = (directory: string): string[] =>
  ['rows.jsonl', 'summary.json'].map((name) => readFileSync(join(directory, name), 'utf8'));

describe('an evaluation with two models and two seeds', async () => {
  const [trained, start] = [model('first'), model('try')];
  const players = { model: trained.playerAt, start: start.playerAt };
  const setup: Setup = { seeds: [4, 9], problems: problemsFrom(0, 12), start: players.start };
  const whole = join(place, 'whole');
  const summary = await measureInto(whole, players, setup);

  test('that was cut at any byte goes on to the same bytes', async () => {
    const [rows = '', json = ''] = bytesOf(whole);
    let cut = 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(Buffer.byteLength(rows)), async (bytes) => {
        const directory = join(place, `cut-${cut++}`);
        mkdirSync(directory);
        for (const name of ['config.json', 'rows.jsonl'])
          writeFileSync(join(directory, name), readFileSync(join(whole, name)));
        truncateSync(join(directory, 'rows.jsonl'), bytes);
        await measureInto(directory, players, setup, true);
        expect(bytesOf(directory)).toEqual([rows, json]);
      }),
      { numRuns: 8, examples: [[0], [Buffer.byteLength(rows)], [Buffer.byteLength(rows) - 1]] },
    );
  }, 30_000);

  test('samples nothing for rows that are kept', async () => {
    const before = [trained.sampled(), start.sampled()];
    await measureInto(whole, players, setup, true);
    expect([trained.sampled(), start.sampled()]).toEqual(before);
  });

  test('refuses to go on with other problems, by name', async () => {
    const others = { ...setup, problems: problemsFrom(5, 12) };
    await expect(measureInto(whole, players, others, true)).rejects.toThrow(/expected problem p5, got p0/);
  });

  test('has a rate, a lift and a rescue rate for each control that could be posed', () => {
    const [first] = summary.model.sampled;
    const posed = CONTROL_NAMES.filter((name) => name !== 'afterForcedBeginning');
    expect(summary.model.sampled.map(({ seed }) => seed)).toEqual([4, 9]);
    for (const name of posed) {
      expect(first?.[name].n, name).toBe(12);
      expect(first?.lift[name]?.diff, name).toBeCloseTo(
        (first?.secondTry.rate ?? 0) - (first?.[name].rate ?? 0),
        12,
      );
      expect(summary.model.overSeeds.lift[name]?.seeds, name).toBe(2);
    }
    expect(Object.keys(first?.rescue ?? {})).toEqual(['secondTry', ...posed.slice(0, 4)]);
    expect(first?.lift.afterForcedBeginning).toBeUndefined();
    expect(summary.start?.sampled[1]?.afterForcedBeginning.n).toBe(12);
    expect(summary.change?.writerByReader).toHaveLength(2);
    expect(summary.change?.forcedBeginning).toEqual(['first', 'first']);
    // A rescue is a pass among the failures: rescues are what the second try adds to the first.
    const { firstTry, secondTry, rescue } = first as NonNullable<typeof first>;
    const failed = rescue.secondTry?.n ?? 0;
    expect(firstTry.rate * 12 + (rescue.secondTry?.rate ?? 0) * failed).toBeCloseTo(secondTry.rate * 12, 9);
  });

  test('counts how tries ended, before and after, and what the reflections are like', () => {
    const { classes, reflections, firstTry } = summary.model
      .sampled[0] as EvaluationFile['model']['sampled'][number];
    expect(classes.firstTry['passed']).toBe(Math.round(firstTry.rate * 12));
    expect(classes.firstTry['missed target']).toBe(12 - Math.round(firstTry.rate * 12));
    expect(Object.values(classes.secondTry).reduce((sum, n) => sum + n, 0)).toBe(reflections.count);
    expect(classes.secondTry['no retry']).toBe(Math.round(reflections.cutOff * reflections.count));
    expect(reflections).toMatchObject({ leaked: { rate: 0 }, scripts: { Latin: 1 }, mixedScripts: 0 });
  });

  test('greedy tries are measured once, and there are no independent greedy attempts', () => {
    expect(summary.model.greedy).toMatchObject({ seed: 4, temperature: 0 });
    expect(summary.model.greedy.twoIndependent.n).toBe(0);
    expect(summary.model.greedy.lift.twoIndependent).toBeUndefined();
  });

  test('is shown in tables of at most 100 columns, also in Markdown', () => {
    const tables = evaluationTables(summary);
    const text = tables.map(({ heads, rows }) => renderTable(heads, rows)).join('\n');
    for (const line of text.split('\n')) expect(widthOf(line), line).toBeLessThanOrEqual(100);
    expect(tables.map(({ title }) => title)).toEqual([
      'the model, temperature 0.5, 2 seeds',
      'the model, greedy',
      'the start model, temperature 0.5, 2 seeds',
      'the start model, greedy',
      'the model minus the start model',
      "who gains, on the start model's failures, seed 4",
      'how far the model has moved, seed 4',
      'reflections on failed first tries, mean over 2 seeds',
      'how tries ended, counts, mean over 2 seeds',
      'cost, and attempts alone, mean over 2 seeds',
    ]);
    expect(text).not.toMatch(/NaN|undefined|null/);
    expect(renderMarkdown(['a', 'b'], [['x|y', 1]])).toBe('| a | b |\n| --- | --- |\n| x\\|y | 1 |');
    // What is read back from the file says the same.
    expect(evaluationTables(readEvaluation(whole).summary as EvaluationFile)).toEqual(tables);
  });

  test('has means over the seeds for how tries ended, what reflections are like and what tries cost', () => {
    const [one] = summary.model.sampled as [MeasurementSummary];
    const other: MeasurementSummary = {
      ...one,
      classes: { firstTry: { passed: (one.classes.firstTry['passed'] ?? 0) + 3 }, secondTry: {} },
      reflections: { ...one.reflections, count: one.reflections.count + 2, scripts: { CJK: 1 } },
      meanTokens: { attempt: one.meanTokens.attempt + 4, twoTries: one.meanTokens.twoTries },
    };
    const tables = evaluationTables({
      ...summary,
      model: { ...summary.model, sampled: [one, other] },
      start: null,
    });
    const shown = (row: string): string | undefined =>
      tables.flatMap(({ rows }) => rows).find(([label]) => label === row)?.[1];
    expect(shown('passed')).toBe(((one.classes.firstTry['passed'] ?? 0) + 1.5).toFixed(1));
    expect(shown('how many')).toBe(String(one.reflections.count + 1));
    expect(shown('letters in Latin, %')).toBe('50.0');
    expect(shown('tokens of a first try')).toBe((one.meanTokens.attempt + 2).toFixed(1));
  });

  test('has no share of scripts and kinds of a seed without reflections in their means', () => {
    const [one] = summary.model.sampled as [MeasurementSummary];
    const shown = (scripts: object, kinds: object): string[] => {
      const reflections = { ...one.reflections, scripts, kinds } as MeasurementSummary['reflections'];
      const written = {
        ...one,
        reflections: { ...one.reflections, scripts: { Latin: 1 }, kinds: { step: 1 } },
      };
      const measured = { ...summary.model, sampled: [written, { ...one, reflections }] };
      const rows = evaluationTables({ ...summary, model: measured, start: null }).flatMap(
        (table) => table.rows,
      );
      return ['letters in Latin, %', 'kind: step, %'].map(
        (wanted) => rows.find(([label]) => label === wanted)?.[1] ?? '',
      );
    };
    expect(shown({}, {})).toEqual(['100.0', '100.0']);
    expect(shown({ CJK: 1 }, { search: 1 })).toEqual(['50.0', '50.0']);
  });

  test('is compared with another of the same problems, without a model', async () => {
    const other = join(place, 'other');
    await measureInto(
      other,
      { model: start.playerAt, start: null },
      { ...setup, start: null, seeds: [4, 9] },
    );
    const { code, stdout, stderr } = await runInPlace(['compare', other, whole, '--json']);
    expect(code, stderr).toBe(0);
    const { n, sampled, greedy, notes } = JSON.parse(stdout);
    // The start model of the one is the model of the other: the same differences.
    expect({ n, sampled, greedy, notes }).toEqual({
      n: 12,
      sampled: JSON.parse(JSON.stringify(summary.change?.sampled)),
      greedy: JSON.parse(JSON.stringify(summary.change?.greedy)),
      notes: [],
    });
    const shown = await runInPlace(['compare', other, whole]);
    expect(shown.stdout).toContain(`${whole} minus ${other}`);
    expect(shown.stdout).toMatch(/\nsecond try, after its own reflection +[+-]?\d/);
  });

  test('is not compared with other problems, by name, nor before it is done', async () => {
    const others = join(place, 'others');
    const problems = [...problemsFrom(0, 7), ...problemsFrom(100, 5)];
    await measureInto(others, { model: start.playerAt, start: null }, { seeds: [4, 9], problems });
    const refused = await runInPlace(['compare', whole, others]);
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toContain('expected the same problems, got p7 and p100 at place 8');
    rmSync(join(others, 'summary.json'));
    const undone = await runInPlace(['compare', whole, others]);
    expect(undone.stderr).toContain(`go on with: r3 eval --resume ${others}`);
  });
});

test('without controls nothing beyond the two tries is sampled', async () => {
  const { playerAt, sampled } = model('try');
  const problems = problemsFrom(0, 10);
  const summary = await measureInto(
    join(place, 'none'),
    { model: playerAt, start: null },
    { controls: [], problems },
  );
  const all = [...summary.model.sampled, summary.model.greedy];
  const failed = all.reduce((sum, { reflections }) => sum + reflections.count, 0);
  const cutOff = all.reduce(
    (sum, { reflections: { cutOff: share, count } }) => sum + Math.round(share * count),
    0,
  );
  // A first try each, at either temperature; a reflection on each failure, and a retry where it ended.
  expect(sampled()).toBe(2 * problems.length + 2 * failed - cutOff);
  for (const { lift } of all) expect(lift).toEqual({});
});

test('what could not be judged is left out of the rates, counted and named', async () => {
  const failing = {
    ...countdown,
    verify: (problem: Parameters<typeof countdown.verify>[0], answer: string) => {
      if (problem.id === 'p3') throw new Error('the judge is out');
      return countdown.verify(problem, answer, prompts);
    },
  } as unknown as Task;
  const { playerAt } = model('try', failing);
  const problems = problemsFrom(0, 8);
  const summary = await measureInto(join(place, 'unjudged'), { model: playerAt, start: null }, { problems });
  const [first] = summary.model.sampled;
  expect(first).toMatchObject({
    firstTry: { n: 7 },
    secondTry: { n: 7 },
    notScored: { counts: { firstTry: 1 }, reasons: ['the judge is out'] },
  });
  expect(first?.classes.firstTry['not scored']).toBe(1);
  expect(summary.warnings[0]).toMatch(/tries were not scored .*: the judge is out$/);
});

test.each(['firstTry', 'reflection', 'secondTry'] as const)(
  'a %s that does not fit the context is not judged, by name, and the rest goes on',
  async (turn) => {
    const long = { id: 'long', nums: Array.from({ length: 60 }, () => 3), target: 7 };
    const playerIn = (contextLength: number): Player => {
      const engine = makeFakeEngine(() => ids('3 + 2 + 1'), { contextLength });
      return makePlayer(engine, START_MODEL, countdown as unknown as Task, prompts, {
        temperature: TEMPERATURE,
        maxAttemptTokens: 20,
        maxReflectionTokens: MAX_REFLECTION,
      });
    };
    const { pose, askToReflect, askAgain } = playerIn(4096);
    const answer = { tokens: ids('3 + 2 + 1'), logprobs: [], text: '3 + 2 + 1', stopReason: 'stop' as const };
    const asked = askToReflect(long, answer, { ok: false, class: 'x', why: 'y' });
    const needed = {
      firstTry: pose(long).tokens.length + 20,
      reflection: asked.tokens.length + MAX_REFLECTION,
      secondTry: askAgain(long, asked, answer).tokens.length + 20,
    };
    const players = { model: () => playerIn(needed[turn] - 1), start: null };
    const problems = [...problemsFrom(0, 2), long, ...problemsFrom(3, 1)];
    const directory = join(place, `long-${turn}`);
    const summary = await measureInto(directory, players, { problems });
    const { counts, reasons } = summary.model.sampled[0]?.notScored ?? {};
    expect(counts).toMatchObject(turn === 'firstTry' ? { firstTry: 1 } : { secondTry: 1 });
    expect(reasons?.[0]).toContain('problem long: a turn of');
    expect(summary.model.sampled[0]).toMatchObject({
      firstTry: { n: turn === 'firstTry' ? 3 : 4 },
      secondTry: { n: 3 },
      meanTokens: { attempt: answer.tokens.length },
    });
    expect(summary.warnings[0]).toContain('problem long');
    // What is kept is read again.
    expect(await measureInto(directory, players, { problems }, true)).toEqual(summary);
  },
);

test('a leak is a reflection in which something passes', async () => {
  const engine = makeFakeEngine((prompt) => {
    const text = tokenizer.decode([...prompt]);
    return ids(text.includes('why') && !text.includes('again') ? '3 * 2 + 1' : '3 + 2 + 1');
  });
  const playerAt = (temperature: number): Player =>
    makePlayer(engine, START_MODEL, countdown, prompts, {
      temperature,
      maxAttemptTokens: 20,
      maxReflectionTokens: MAX_REFLECTION,
    });
  const problems = problemsFrom(0, 3);
  const summary = await measureInto(join(place, 'leaks'), { model: playerAt, start: null }, { problems });
  expect(summary.model.sampled[0]?.reflections.leaked).toMatchObject({ rate: 1, n: 3 });
});

test('problems that a run was trained on are told by what they ask, not by their ids', () => {
  const directory = join(place, 'trained-on');
  const run = createRun(directory, { version: 1, command: 'train', task: 'sums' });
  const written = { tokens: ids('1'), logprobs: [], text: '1', stopReason: 'stop' as const };
  const row = (id: string, question: string): Problem => ({ id, row: { question } }) as Problem;
  run.appendGroup([
    {
      version: 1,
      step: 0,
      group: 'row-1#0',
      index: 0,
      problem: row('row-1', '1 + 1'),
      attempt: written,
      attemptScore: { ok: false, class: 'wrong', why: 'no' },
      reflection: written,
      retry: null,
      score: null,
      reward: null,
      advantage: null,
    },
  ]);
  run.close();
  // The same ids in another file, and the trained problem at another place.
  expect(countTrained([row('row-1', '2 + 2'), row('row-2', '3 + 3')], directory)).toBe(0);
  expect(countTrained([row('row-1', '2 + 2'), row('row-2', '1 + 1')], directory)).toBe(1);
  // Of problems that are nothing but an id, that is what they ask.
  expect(contentOf({ id: 'a' })).not.toBe(contentOf({ id: 'b' }));
});

test.each([
  ['1', [1]],
  ['3, 2,1', [3, 2, 1]],
])('seeds %j are %j', (text, seeds) => {
  expect(parseSeeds(text)).toEqual(seeds);
});

test.each(['', '1,1', 'one', '1.5', '4294967296', '-1', '1,,2'])('seeds %j are refused', (text) => {
  expect(() => parseSeeds(text)).toThrow(/--seeds: expected distinct whole numbers/);
});

test('controls are all, none or some, and the one that takes two models is refused without a second', () => {
  expect(parseControls('all', true)).toEqual(CONTROL_NAMES);
  expect(parseControls('all', false)).toEqual(
    CONTROL_NAMES.filter((name) => name !== 'afterForcedBeginning'),
  );
  expect(parseControls('none', true)).toEqual([]);
  expect(parseControls('empty, plain', false)).toEqual([
    'secondTryWithoutReflection',
    'afterEmptyReflection',
  ]);
  expect(() => parseControls('forced-beginning', false)).toThrow(/that one needs --against/);
  expect(() => parseControls('plain,emty', false)).toThrow(/got "emty"/);
});

test.each([
  [['eval', '--task', 'countdown'], '--problems: expected it, or --resume'],
  [['eval', '--json', '--markdown'], '--markdown: expected one form of output'],
  [
    ['eval', '--resume', 'x', '--seeds', '2'],
    '--seeds: expected nothing that changes a result beside --resume',
  ],
])('%j is a mistake in the command line', async (args, message) => {
  const { code, stderr } = await runInPlace(args);
  expect(stderr).toContain(message);
  expect(code).toBe(2);
});

test('a folder that is no evaluation, and rows that are none, are refused by name', async () => {
  expect((await runInPlace(['compare', place, place])).stderr).toContain(
    'expected an evaluation, got no config.json',
  );
  const { playerAt } = model('try');
  const directory = join(place, 'damaged');
  await measureInto(directory, { model: playerAt, start: null }, { problems: problemsFrom(0, 2) });
  writeFileSync(join(directory, 'rows.jsonl'), '{"version":1,"part":"tries"}\n');
  expect((await runInPlace(['compare', directory, directory])).stderr).toContain(
    'rows.jsonl:1: model: expected',
  );
});
