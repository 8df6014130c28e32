import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Episode, Written } from '../method/episode.ts';
import { evaluationFile } from '../runs/report/testing.ts';
import { createRun } from '../runs/run.ts';
import { countdown } from '../tasks/countdown.ts';
import { loadTokenizer } from '../text/tokenizer.ts';
import { runInPlace } from './testing.ts';

const START = fileURLToPath(new URL('../../models/start', import.meta.url));
const tokenizer = loadTokenizer(START);
const [endId = 0] = tokenizer.eosIds;

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);
const page = (...names: string[]): string => readFileSync(at(...names), 'utf8');

function written(text: string): Written {
  const tokens = [...tokenizer.encode(text), endId];
  return { tokens, logprobs: tokens.map((_, i) => -0.25 * (i + 1)), text, stopReason: 'stop' };
}

function episodeAt(step: number, index: number, more: Partial<Episode> = {}): Episode {
  const helped = index % 2 === 0;
  return {
    version: 1,
    step,
    group: '4-7-2-to-26#0',
    index,
    problem: { id: '4-7-2-to-26', nums: [4, 7, 2], target: 26 } as Episode['problem'],
    attempt: written('4 + 7 + 2'),
    attemptScore: { ok: false, class: 'missed target', why: 'expected 26, got 13' },
    reflection: written(helped ? 'keep 2 need 13' : 'too big'),
    retry: written('4 * 7 - 2'),
    score: helped ? { ok: true } : { ok: false, class: 'missed target', why: 'expected 26, got 28' },
    reward: helped ? 1 : 0,
    advantage: helped ? 0.75 : -0.75,
    ...more,
  };
}

/** A run of four steps. */
function makeRun(name: string, seed: number, more: Partial<Episode> = {}): string {
  const run = createRun(at(name), {
    version: 1,
    command: 'train',
    task: countdown.name,
    prompts: { ...countdown.prompts('short') },
    model: { directory: START, hash: 'x' },
    kernels: 'reference kernels',
    sources: { seed: 'given' },
    train: { seed, steps: 4 },
  });
  for (let step = 0; step < 4; step++) {
    run.appendGroup([episodeAt(step, 0, more), episodeAt(step, 1, more)]);
    run.appendMetrics({ step, reward: 0.25 * step, kl: 0 });
    run.appendTimings({ step, sample: 1, train: 2 });
  }
  run.close();
  return at(name);
}

interface Measured {
  /** What of config.json is otherwise. */
  config?: Record<string, unknown>;
  seeds?: number[];
  /** As it stands in summary.json. */
  text?: string;
}

/** An evaluation of the run's own model, in the run. */
function addEvaluation(run: string, name: string, { config = {}, seeds = [1], text }: Measured = {}): void {
  const directory = at(run, 'evaluations', name);
  mkdirSync(directory, { recursive: true });
  const { n, temperature } = evaluationFile;
  const named = {
    version: 1,
    command: 'eval',
    task: countdown.name,
    prompts: { name: 'short' },
    model: { directory: at(run, 'model'), hash: 'b' },
    start: null,
    problems: { file: 'p.jsonl', limit: null, count: n, hash: 'h1' },
    dtype: 'f32',
    context: null,
    kernels: 'reference',
    sampling: { temperature, maxAttemptTokens: 20, maxReflectionTokens: 40 },
    seeds,
    controls: [],
    fixedText: 'be careful',
    run: { directory: at(run), options: [] },
    ...config,
  };
  writeFileSync(join(directory, 'config.json'), JSON.stringify(named));
  writeFileSync(join(directory, 'summary.json'), text ?? JSON.stringify({ ...evaluationFile, seeds }));
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'r3-report-'));
  makeRun('one', 1);
  makeRun('two', 2);
});
afterAll(() => rmSync(folder, { recursive: true }));

test('a run gets its page, with examples token by token, sources and environment', async () => {
  const { code, stdout, stderr } = await runInPlace(['report', at('one')]);
  expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: `${at('one', 'report.html')}\n` });
  const html = page('one', 'report.html');
  expect(html).toContain('in training, helped');
  expect(html).toContain('in training, did not help');
  expect(html).toContain('title="reflection token 1: trained, advantage +0.75; log-probability −0.25"');
  expect(html).toContain('title="retry token 1: not trained; log-probability −0.25"');
  expect(html).toContain('<th scope="row">train.seed</th><td>1</td><td>given</td>');
  expect(html).toContain(`<th scope="row">node</th><td>${process.version}</td>`);
  expect(html).toContain('<th scope="row">kernels</th><td>reference kernels</td>');
  expect(html).toContain('What became of retries in training, first 2 steps and last 2.');
});

test("where the model's tokenizer is gone, texts are shown whole and the page says so", async () => {
  makeRun('moved', 1);
  const config = JSON.parse(page('moved', 'config.json')) as { model: { directory: string } };
  config.model.directory = at('nowhere');
  writeFileSync(at('moved', 'config.json'), JSON.stringify(config));
  expect((await runInPlace(['report', at('moved')])).code).toBe(0);
  expect(page('moved', 'report.html')).toContain('tokenizer is not where the run had it');
  expect(page('moved', 'report.html')).not.toContain('class="token up" title');
});

test('a reflection that holds a passing answer is shown as leaked', async () => {
  makeRun('leaked', 1, { reflection: written('4 * 7 - 2') });
  expect((await runInPlace(['report', at('leaked')])).code).toBe(0);
  expect(page('leaked', 'report.html')).toContain('in training, leaked');
  await runInPlace(['report', at('one')]);
  expect(page('one', 'report.html')).not.toContain('in training, leaked');
});

test('a run that was not audited says so', async () => {
  makeRun('unaudited', 1);
  const config = JSON.parse(page('unaudited', 'config.json')) as object;
  writeFileSync(at('unaudited', 'config.json'), JSON.stringify({ ...config, audited: false }));
  await runInPlace(['report', at('unaudited')]);
  expect(page('unaudited', 'report.html')).toContain('The audit before training was left out');
  expect(page('one', 'report.html')).not.toContain('The audit before training was left out');
});

test('what is trained follows the options of the run', async () => {
  makeRun('retries', 1);
  const config = JSON.parse(page('retries', 'config.json')) as { train: object };
  Object.assign(config.train, { method: 'reflect', trainTokens: 'retry' });
  writeFileSync(at('retries', 'config.json'), JSON.stringify(config));
  await runInPlace(['report', at('retries')]);
  expect(page('retries', 'report.html')).toContain('title="retry token 1: trained, advantage');
  expect(page('retries', 'report.html')).toContain('title="reflection token 1: not trained');
});

test('several runs get one page beside the first, or where --out says', async () => {
  const runs = [at('one'), at('two')];
  expect((await runInPlace(['report', ...runs])).stdout).toBe(`${at('report.html')}\n`);
  expect(page('report.html')).toContain('mean of A, B, least to most');
  const { stdout } = await runInPlace(['report', ...runs, '--out', at('both.html'), '--json']);
  expect(JSON.parse(stdout)).toEqual({ report: at('both.html') });
  expect(page('both.html')).toBe(page('report.html'));
});

test('Markdown goes to stdout, or to a file, and leaves the page alone', async () => {
  rmSync(at('two', 'report.html'), { force: true });
  const { stdout } = await runInPlace(['report', at('two'), '--markdown']);
  expect(stdout).toContain('| train.seed | 2 | given |');
  expect(existsSync(at('two', 'report.html'))).toBe(false);
  await runInPlace(['report', at('two'), '--markdown', '--out', at('two.md')]);
  expect(page('two.md')).toBe(stdout);
});

test('the latest evaluation of the run that is done is the one that is shown', async () => {
  cpSync(at('one'), at('measured'), { recursive: true });
  addEvaluation('measured', '9', { seeds: [5] });
  addEvaluation('measured', '10', { seeds: [1, 2] });
  mkdirSync(at('measured', 'evaluations', '11'));
  await runInPlace(['report', at('measured')]);
  const html = page('measured', 'report.html');
  expect(html).toContain('means over the seeds 1, 2');
  expect(html).toContain('71.0 →</span> 88.0');
  expect(html).not.toMatch(/NaN|undefined/);
});

test.each([
  ['{"versi', 'summary.json: expected'],
  ['{"version":7}', 'summary.json: version: expected 1, got 7'],
  ['{"version":1}', 'summary.json: n: expected'],
])('an evaluation whose summary is %j is left out by name', async (text, why) => {
  const run = `damaged-${text.length}`;
  cpSync(at('one'), at(run), { recursive: true });
  addEvaluation(run, '001', { seeds: [5, 6] });
  addEvaluation(run, '002', { text });
  const { code, stderr, stdout } = await runInPlace(['report', at(run), '--markdown']);
  expect(code, stderr).toBe(0);
  expect(stdout).toContain('means over the seeds 5, 6');
  expect(stdout).toMatch(/\*\*Warning:\*\* An evaluation is left out: .*002/);
  expect(stdout.replaceAll('\\', '')).toContain(why);
});

test('an evaluation of another model is left out by name', async () => {
  cpSync(at('one'), at('borrowed'), { recursive: true });
  addEvaluation('borrowed', '001', { seeds: [5, 6] });
  addEvaluation('borrowed', '002', { config: { model: { directory: START, hash: 'a' } }, seeds: [7, 8] });
  const { stdout } = await runInPlace(['report', at('borrowed'), '--markdown']);
  expect(stdout).toContain('means over the seeds 5, 6');
  expect(stdout.replaceAll('\\', '')).toContain(`002 measured ${START}, not the model of this run.`);
  // A server does not tell its weights: what it served under a name is taken for the run's model.
  const served = { engine: 'openai', model: { directory: 'name', hash: null }, dtype: null };
  addEvaluation('borrowed', '003', { config: served, seeds: [9, 10] });
  const shown = await runInPlace(['report', at('borrowed'), '--markdown']);
  expect(shown.stdout).toContain('means over the seeds 9, 10');
});

test('a run that was moved keeps its evaluations', async () => {
  cpSync(at('one'), at('carried'), { recursive: true });
  const home = { model: { directory: '/gone/model', hash: 'b' }, run: { directory: '/gone', options: [] } };
  addEvaluation('carried', '001', { config: home, seeds: [5, 6] });
  const { stdout } = await runInPlace(['report', at('carried'), '--markdown']);
  expect(stdout).toContain('means over the seeds 5, 6');
});

test('evaluated numbers have a spread over seeds only where the evaluations agree', async () => {
  const report = async (config: Record<string, unknown>): Promise<string> => {
    for (const [name, from] of [
      ['first', 'one'],
      ['second', 'two'],
    ] as const) {
      rmSync(at(name), { recursive: true, force: true });
      cpSync(at(from), at(name), { recursive: true });
    }
    addEvaluation('first', '001');
    addEvaluation('second', '001', { config });
    const { stdout } = await runInPlace(['report', at('first'), at('second'), '--markdown']);
    return stdout.replaceAll('\\', '');
  };
  const spread = /^\| First try \|.* 50\.0 \(50\.0 to 50\.0\) \|$/m;
  // Another seed of sampling is another draw of the same.
  const alike = await report({ seeds: [3] });
  expect(alike).toMatch(spread);
  expect(alike).toContain('| evaluation: seeds | [1] | [3] |');
  expect(alike).not.toContain('numbers that depend on it');
  const sampling = { temperature: 0.3, maxAttemptTokens: 20, maxReflectionTokens: 40 };
  const problems = { file: 'easy.jsonl', limit: null, count: 50, hash: 'h2' };
  const apart = await report({ sampling, problems });
  expect(apart).not.toMatch(spread);
  expect(apart).toMatch(/^\| First try \|.* – \|$/m);
  expect(apart).toContain(
    'The evaluations of A, B differ in problems, n, temperature: numbers that depend on it have no spread over seeds.',
  );
  expect(apart).toContain('| evaluation: temperature | 0.9 | 0.3 |');
  expect(apart).toContain('| evaluation: problems | h1 | h2 |');
  // Numbers of training have theirs.
  expect(apart).toMatch(/^\| Reward in training \|.* to .*\|$/m);
});

test('an evaluation is no run, and is told apart by name', async () => {
  mkdirSync(at('evaluation'));
  writeFileSync(at('evaluation', 'config.json'), '{"version":1,"command":"eval","task":"countdown"}');
  for (const args of [['report'], ['show']]) {
    const { code, stdout, stderr } = await runInPlace([...args, at('evaluation')]);
    expect(stderr).toContain('expected a run folder, got an evaluation; r3 compare tells two of them apart');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  }
});

test('--tensorboard writes an event file for each run, and again the same one', async () => {
  const args = ['report', at('one'), at('two'), '--tensorboard', at('events')];
  const { stdout } = await runInPlace(args);
  const files = stdout.trimEnd().split('\n');
  expect(files).toHaveLength(2);
  const before = files.map((file) => readFileSync(file));
  for (const bytes of before) expect(bytes.includes('brain.Event:2')).toBe(true);
  expect((await runInPlace(args)).stdout).toBe(stdout);
  expect(files.map((file) => readFileSync(file))).toEqual(before);
});

test.each([
  [['one', 'one'], 'runs: expected each once, got'],
  [['one', '--markdown', '--tensorboard', 'x'], '--tensorboard: expected no --markdown'],
  [['one', '--markdown', '--json'], '--json: expected --out beside --markdown'],
])('%j is refused by name', async (args, message) => {
  const named = args.map((arg) => (arg === 'one' ? at(arg) : arg));
  const { code, stderr } = await runInPlace(['report', ...named]);
  expect(code).toBe(2);
  expect(stderr).toContain(message);
});
