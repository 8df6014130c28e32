/**
 * npm run parity -- [--seed N] [--only NAME,NAME]
 *
 * Fresh random models of every family, both ways: transformers and PEFT write a model and what they compute from it,
 * the engine must compute the same; then the engine trains the model a little and saves it, and transformers must
 * compute from what was saved what the engine does. Prints a line for each model and exits 1 where one is off by more
 * than LIMIT. The seed is printed, so that a failure can be had again.
 * Needs Python with the packages that scripts/fixtures/families.py names; `R3_PYTHON` names the interpreter.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeCore, type LocalCore } from '../../src/engine/local/core.ts';
import { saveModel } from '../../src/engine/local/directory.ts';
import { mergedWith } from '../../src/engine/local/lora.ts';
import type { Ops } from '../../src/kernels/ops.ts';
import { loadKernels } from '../../src/kernels/load.ts';
import { messageOf } from '../../src/lib/errors.ts';
import {
  accumulate,
  distributionDeviation,
  gradientDeviation,
  greedyTokens,
  loadFixture,
  openFixture,
  scoreDeviation,
  type Fixture,
} from '../../test/parity/families-testing.ts';

/** Of the largest logit, and of a gradient tensor's largest value. */
const LIMIT = 1e-4;
const STEPS = 3;
const ADAM = { learningRate: 1e-3, beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0.01 };

/** A number is a deviation, a boolean whether something is equal. */
type Findings = Record<string, number | boolean>;

/** A line of models.py check. */
interface Checked {
  name: string;
  /** Empty for the saved model itself. */
  what: string;
  deviation: number;
  greedy: boolean;
}

const { values: given } = parseArgs({ options: { seed: { type: 'string' }, only: { type: 'string' } } });
const seed = Number(given.seed ?? Math.floor(Math.random() * 1e6));
if (!Number.isSafeInteger(seed) || seed < 0) {
  throw new Error(`--seed: expected a whole number, got ${given.seed}`);
}
const only = given.only === undefined ? [] : ['--only', ...given.only.split(',')];
const folder = mkdtempSync(join(tmpdir(), 'r3-parity-'));
let passed = false;
try {
  passed = await run(folder);
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(passed ? 0 : 1);

async function run(out: string): Promise<boolean> {
  process.stdout.write(`seed ${seed}\n`);
  python('make', '--seed', String(seed), '--out', out, ...only);
  const names = readdirSync(out).sort();
  mkdirSync(join(out, 'ours'));
  const ops = await loadKernels();
  const findings = new Map<string, Findings>();
  const errors = new Map<string, string>();
  for (const name of names) {
    try {
      findings.set(name, await compare(ops, loadFixture(join(out, name)), join(out, 'ours', name)));
    } catch (error) {
      errors.set(name, messageOf(error));
    }
  }
  for (const line of python('check', out).split('\n').filter(Boolean)) {
    const { name, what, deviation, greedy } = JSON.parse(line) as Checked;
    const label = what === '' ? 'saved' : `saved ${what}`;
    Object.assign(findings.get(name) ?? {}, { [label]: deviation, [`${label} greedy`]: greedy });
  }
  for (const name of names) {
    process.stdout.write(`${name.padEnd(18)} ${errors.get(name) ?? describe(findings.get(name) ?? {})}\n`);
  }
  const good = (found: Findings): boolean =>
    'saved' in found && Object.values(found).every((x) => (typeof x === 'number' ? x < LIMIT : x));
  const failed = names.filter((name) => !good(findings.get(name) ?? {}));
  process.stdout.write(
    failed.length === 0 ? `all within ${LIMIT}\n` : `failed: ${failed.join(', ')} (seed ${seed})\n`,
  );
  return failed.length === 0;
}

/** Compares with what transformers computed, then trains and saves to `saved`, with what we compute after it. */
async function compare(ops: Ops, fixture: Fixture, saved: string): Promise<Findings> {
  const core = makeCore(ops, openFixture(fixture), { cacheBytes: 1 << 20 });
  const found: Findings = {
    logits: Math.max(scoreDeviation(core, fixture), distributionDeviation(core, fixture)),
    greedy: greedyTokens(core, fixture.expected.greedy).join() === fixture.expected.greedy.tokens.join(),
  };
  if (fixture.names('grad.').length > 0) {
    accumulate(core, fixture);
    found['gradients'] = gradientDeviation(core, fixture).deviation;
    core.zeroGradients();
  }
  train(core, fixture);
  await core.save(saved);
  write(core, fixture, saved);
  for (const adapter of Object.keys(fixture.expected.adapters)) {
    Object.assign(found, await compareAdapter(ops, fixture, adapter, saved));
  }
  return found;
}

/** The same with an adapter, which is then trained, and saved by itself and merged. */
async function compareAdapter(ops: Ops, fixture: Fixture, adapter: string, saved: string): Promise<Findings> {
  const model = openFixture(fixture, join(fixture.directory, adapter));
  const core = makeCore(ops, model, { cacheBytes: 1 << 20 });
  const { greedy } = fixture.expected.adapters[adapter]!;
  const scores = scoreDeviation(core, fixture, { of: `${adapter}.` });
  const equal = greedyTokens(core, greedy).join() === greedy.tokens.join();
  accumulate(core, fixture);
  const gradients = gradientDeviation(core, fixture, `${adapter}.`).deviation;
  core.zeroGradients();
  train(core, fixture);
  await core.save(`${saved}+${adapter}`);
  write(core, fixture, `${saved}+${adapter}`);
  const { layout } = model.adapter!;
  const values = new Float32Array(layout.length);
  for (const { name, offset } of layout.parameters) values.set(core.valuesOf(name), offset);
  await saveModel(model, mergedWith(model.read, layout, values), `${saved}+${adapter}-merged`);
  write(core, fixture, `${saved}+${adapter}-merged`);
  model.close();
  return { [adapter]: scores, [`${adapter} greedy`]: equal, [`${adapter} gradients`]: gradients };
}

function train(core: LocalCore, fixture: Fixture): void {
  for (let step = 0; step < STEPS; step++) {
    accumulate(core, fixture);
    core.step(ADAM);
  }
}

/** What `core` computes now, for models.py to compare. */
function write(core: LocalCore, fixture: Fixture, path: string): void {
  const logprobs = core.forward(fixture.datums, 1, 'current', false).map((row) => [...row]);
  writeFileSync(
    `${path}.json`,
    JSON.stringify({ logprobs, greedy: greedyTokens(core, fixture.expected.greedy) }),
  );
}

function describe(found: Findings): string {
  const show = (x: number | boolean): string =>
    typeof x === 'number' ? x.toExponential(1) : x ? 'equal' : 'DIFFERENT';
  return Object.entries(found)
    .map(([what, x]) => `${what} ${show(x)}`)
    .join('  ');
}

/** Runs models.py; its standard output. Ends the process where Python fails, which has said why. */
function python(...args: string[]): string {
  const { stdout, status, error } = spawnSync(
    process.env['R3_PYTHON'] ?? 'python3',
    [fileURLToPath(new URL('models.py', import.meta.url)), ...args],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, OMP_NUM_THREADS: '1' } },
  );
  if (status !== 0) {
    rmSync(folder, { recursive: true });
    process.stderr.write(
      `parity: models.py: expected it to run, got ${error === undefined ? `exit ${status}` : messageOf(error)}. ` +
        'It needs Python with torch, transformers and peft; R3_PYTHON names the interpreter.\n',
    );
    process.exit(2);
  }
  return stdout;
}
