/**
 * Trains on a real Tinker-compatible service, from outside, and says what held:
 *
 *   npm run interop -- --url http://HOST:8000 --model NAME --tokenizer DIR [--out DIR] [--steps 40] [--held-out 400] \
 *     [--failures-per-step 16] [--num-generations 16] [--learning-rate 3e-3] [--lora 32] [--restart COMMAND]
 *
 * NAME is the base model by the service's name, DIR its folder here, with weights; the model must know Countdown in the
 * prompts of the quick start, as models/start does. Every step goes through the command `r3`, as a user's would.
 *
 *   1. log-probabilities of the base model, on the service and on the embedded engine
 *   2. a run of Reflect, Retry, Reward: its client is killed after a third of the steps and resumed; after two thirds
 *      COMMAND, a shell command that stops and starts the service, is run beside it, and the run is resumed again
 *   3. the run folder has every step and every episode once
 *   4. log-probabilities of the adapter that the run saved, on both engines
 *   5. an evaluation on problems that were not trained on, beside the start model, with 95% intervals
 *   6. the same options and seed on the embedded engine, and a report of both runs
 *
 * Prints a table; OUT/interop.json has the same. Exits 1 where something did not hold.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { renderTable } from '../../src/cli/table.ts';
import { EXHIBITS } from '../../src/exhibits.ts';
import type { EvaluationFile } from '../../src/method/evaluation-summary.ts';
import { buildAll } from '../build.mjs';
import { compareBase, compareSaved } from './logprobs.ts';
import { checkOnce } from './once.ts';
import { r3, trainThroughFaults } from './r3.ts';

const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    model: { type: 'string' },
    tokenizer: { type: 'string' },
    out: { type: 'string', default: 'interop' },
    steps: { type: 'string', default: '40' },
    problems: { type: 'string', default: '1600' },
    'held-out': { type: 'string', default: '400' },
    'failures-per-step': { type: 'string', default: '16' },
    'num-generations': { type: 'string', default: '16' },
    'learning-rate': { type: 'string', default: '3e-3' },
    lora: { type: 'string', default: '32' },
    seed: { type: 'string', default: '1' },
    restart: { type: 'string' },
  },
});
const { url, model, tokenizer } = values;
if (url === undefined || model === undefined || tokenizer === undefined) {
  const lacks = ['url', 'model', 'tokenizer'].filter((name) => !(name in values));
  throw new Error(`interop: expected --url, --model and --tokenizer, got no --${lacks.join(', --')}`);
}
if (!buildAll())
  throw new Error('interop: expected a checkout that builds, got an error of the build, see above');

/** Of log-probabilities of the same weights on two engines in float32, in nats. */
const TOLERANCE = 1e-4;
const out = resolve(values.out);
const place = { url, baseModel: model, folder: resolve(tokenizer) };
const service = ['--engine', 'tinker', '--url', url, '--tokenizer', place.folder];
const { limits, problems, task } = EXHIBITS.countdown;
const turns = [
  '--prompts',
  'short',
  '--context',
  '256',
  '--max-attempt-tokens',
  String(limits.maxAttemptTokens),
];
turns.push('--max-reflection-tokens', String(limits.maxReflectionTokens));

mkdirSync(out, { recursive: true });
const [trained, heldOut] = (['rl', 'report'] as const).map((split) => {
  const path = join(out, `${split}.jsonl`);
  const rows = problems(split, Number(split === 'rl' ? values.problems : values['held-out']));
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}) as [string, string];

interface Held {
  what: string;
  found: string;
  holds: boolean;
}
const held: Held[] = [];
const record = (what: string, found: string, holds: boolean): void => {
  held.push({ what, found, holds });
  process.stderr.write(`interop: ${holds ? 'held' : 'DID NOT HOLD'}: ${what}: ${found}\n`);
  writeFileSync(join(out, 'interop.json'), `${JSON.stringify({ version: 1, ...values, held }, null, 2)}\n`);
};
const recordDistance = (
  what: string,
  { largest, mean, count }: Awaited<ReturnType<typeof compareBase>>,
): void =>
  record(
    what,
    `largest ${largest.toExponential(1)}, mean ${mean.toExponential(1)} of ${count}`,
    largest <= TOLERANCE,
  );

recordDistance(
  'base model, log-probabilities beside the embedded engine',
  await compareBase(place, problems('choose', 32)),
);

const steps = Number(values.steps);
const training = ['--task', task.name, '--problems', trained, ...turns, '--steps', values.steps];
training.push(
  '--failures-per-step',
  values['failures-per-step'],
  '--num-generations',
  values['num-generations'],
);
training.push(
  '--learning-rate',
  values['learning-rate'],
  '--schedule',
  'linear',
  '--floor',
  '0.1',
  '--warmup-steps',
  '3',
);
training.push('--adam-beta2', '0.98', '--no-max-grad-norm', '--loss-type', 'bnpo', '--beta', '0.2');
training.push('--lora', values.lora, '--seed', values.seed, '--checkpoint-every', '5');
const run = join(out, 'run');
const happened = await trainThroughFaults(
  ['train', ...service, '--model', model, ...training, '--run', run],
  {
    run,
    resume: ['train', '--resume', run, '--url', url],
    steps,
    restart: values.restart,
  },
);
record('a run, killed and resumed', happened.join('; '), true);
const { text, holds } = checkOnce(run, steps, Number(values['failures-per-step']));
record('every step and episode once', text, holds);

const saved = join(run, 'model');
recordDistance(
  'saved adapter, log-probabilities beside the embedded engine',
  await compareSaved(place, saved, problems('choose', 32)),
);

const points = (share: number): string => `${share > 0 ? '+' : ''}${(100 * share).toFixed(1)}`;
const recordGain = (what: string, gain: { diff: number; low: number; high: number } | undefined): void => {
  if (gain === undefined) return record(what, 'nothing', false);
  record(what, `${points(gain.diff)} points (${points(gain.low)} to ${points(gain.high)})`, gain.low > 0);
};
/** A run beside its start model. */
const recordGains = async (where: string, evaluation: readonly string[]): Promise<void> => {
  const summary = await r3(['eval', ...evaluation, '--problems', heldOut, '--json']);
  const { change } = JSON.parse(summary) as EvaluationFile;
  recordGain(`${where}: second try, trained minus start`, change?.sampled[0]?.secondTry);
  recordGain(`${where}: the same, greedy`, change?.greedy.secondTry);
  const written = change?.writerByReader[0]?.writtenByTrained;
  recordGain(`${where}: reflections by trained minus by start, read by start`, written);
};
await recordGains('service', [...service, '--run', run, '--against', model]);

const embedded = join(out, 'run-embedded');
await r3(['train', '--model', place.folder, ...training, '--lora-alpha', '32', '--run', embedded]);
await recordGains('embedded engine, same options', ['--run', embedded, '--against', place.folder]);
await r3(['report', run, embedded, '--out', join(out, 'report.html')]);
process.stderr.write(`interop: both runs side by side: ${join(values.out, 'report.html')}\n`);

process.stdout.write(
  `${renderTable(
    ['', 'what', 'found'],
    held.map((row) => [row.holds ? 'held' : 'NOT', row.what, row.found]),
  )}\n`,
);
if (held.some((row) => !row.holds)) process.exitCode = 1;
