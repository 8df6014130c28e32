/**
 * Makes a start model: writes the data of each phase and trains on it with `r3 sft`, phase after phase.
 *
 *   npm run build && node scripts/run-ts.mjs scripts/start-model/make.ts --out DIR [--recipe countdown] \
 *     [--data-seed 0] [--init-seed 1] [--shape small] [--exclude FILE ...]
 *
 * The result is DIR/model, in bf16. The same seeds, excluded rows and kernel variant give the same bytes;
 * models/start/README.md and models/start-calls/README.md say how the shipped models were made. `--exclude`: rows of a
 * public set, kept out of all data so that they can be reported on. `--from PHASE --model DIR` goes on from a model that was made before.
 * `--shape large` makes the same model ten times larger, on the same data; `--rate-scale` multiplies its learning rates.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { SHAPES, startModelFiles } from './files.ts';
import type { PhaseTraining } from './recipe.ts';
import { recipeNamed } from './recipes.ts';

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    recipe: { type: 'string', default: 'countdown' },
    'data-seed': { type: 'string', default: '0' },
    'init-seed': { type: 'string', default: '1' },
    shape: { type: 'string', default: 'small' },
    'rate-scale': { type: 'string', default: '1' },
    exclude: { type: 'string', multiple: true, default: [] },
    from: { type: 'string' },
    model: { type: 'string' },
  },
});
if (values.out === undefined) throw new Error('--out: expected a folder, got none');
const out = values.out;
const { phases, training, words } = recipeNamed(values.recipe);
const shape = Object.entries(SHAPES).find(([name]) => name === values.shape)?.[1];
if (shape === undefined)
  throw new Error(`--shape: expected ${Object.keys(SHAPES).join(' or ')}, got ${values.shape}`);
const rateScale = Number(values['rate-scale']);
if (!(rateScale > 0)) throw new Error(`--rate-scale: expected a number above 0, got ${values['rate-scale']}`);
mkdirSync(out, { recursive: true });
const root = fileURLToPath(new URL('../..', import.meta.url));
const node = (...args: string[]): void =>
  void execFileSync(process.execPath, args, { cwd: root, stdio: 'inherit' });

const first = values.from === undefined ? 0 : phases.findIndex((phase) => phase.name === values.from);
if (first < 0)
  throw new Error(`--from: expected one of ${phases.map((p) => p.name).join(', ')}, got ${values.from}`);
let model = values.model ?? writeUntrained(join(out, 'untrained'));
for (const [i, phase] of phases.slice(first).entries()) {
  const last = first + i === phases.length - 1;
  const data = join(out, `phase-${phase.name}.jsonl`);
  node(
    'scripts/run-ts.mjs',
    'scripts/start-model/data.ts',
    '--recipe',
    values.recipe,
    '--phase',
    phase.name,
    '--seed',
    values['data-seed'],
    '--out',
    data,
    ...values.exclude.flatMap((file) => ['--exclude', file]),
  );
  const trained = join(out, last ? 'model' : `after-${phase.name}`);
  node(
    'dist/cli/main.js',
    'sft',
    '--model',
    model,
    '--data',
    data,
    '--out',
    trained,
    ...sftOptions(phase, last),
    ...(values.model === undefined && first + i === 0 ? ['--init-seed', values['init-seed']] : []),
  );
  model = trained;
}

/** The start model's folder without weights. */
function writeUntrained(directory: string): string {
  mkdirSync(directory, { recursive: true });
  for (const [name, content] of Object.entries(startModelFiles(words, shape)))
    writeFileSync(join(directory, name), `${JSON.stringify(content, null, 2)}\n`);
  return directory;
}

function sftOptions(phase: PhaseTraining, last: boolean): string[] {
  const steps = Math.floor(phase.sequences / training.batchSize);
  const options: Record<string, string | number> = {
    steps,
    'batch-size': training.batchSize,
    'learning-rate': phase.learningRate * rateScale,
    schedule: 'linear',
    'warmup-steps': training.warmupSteps,
    'flat-steps': Math.round(phase.flat * steps) - training.warmupSteps,
    floor: training.finalRate,
    'adam-beta1': training.beta1,
    'adam-beta2': training.beta2,
    'weight-decay': training.weightDecay,
    'max-grad-norm': training.maxGradNorm,
    'loss-denominator': training.lossDenominator,
    'save-as': last ? 'BF16' : 'F32',
  };
  return Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
}
