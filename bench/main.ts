/**
 * npm run bench -- gemm|decode|weights|train|r3-step|model [--shape qwen2.5-0.5b] [--json]
 *
 * Prints one line per case, JSON with --json. Ratios are measured side by side in one run; absolute numbers are
 * those of this machine, now.
 */
import { benchDecode, benchGemm, benchWeights } from './gemm.ts';
import type { BenchLine, Emit } from './harness.ts';
import { benchModelShape } from './model.ts';
import { benchR3Step } from './r3-step.ts';
import { SHAPE_NAMES } from './shapes.ts';
import { benchTrain } from './train.ts';

const BENCHES: Record<string, (emit: Emit, options: { shape: string }) => Promise<void>> = {
  gemm: benchGemm,
  decode: benchDecode,
  weights: benchWeights,
  train: benchTrain,
  'r3-step': benchR3Step,
  model: benchModelShape,
};

const args = process.argv.slice(2);
const [defaultShape = ''] = SHAPE_NAMES;
const shapeAt = args.indexOf('--shape');
const [, shape = defaultShape] = shapeAt < 0 ? [] : args.splice(shapeAt, 2);
const names = args.filter((arg) => arg !== '--json');
const unknown = names.filter((name) => !Object.hasOwn(BENCHES, name));
if (unknown.length > 0 || names.length === 0) {
  process.stderr.write(
    `bench: expected ${Object.keys(BENCHES).join(', ')} or --json, got ${unknown[0] ?? 'nothing'}\n`,
  );
  process.exit(2);
}

const print = (line: BenchLine): void => {
  const { bench, case: name, value, unit, peakRatio, bandwidthRatio } = line;
  const percent = (ratio: number | undefined, of: string): string =>
    ratio === undefined ? '' : `  ${(100 * ratio).toFixed(1)}% of ${of}`;
  const ratio = percent(peakRatio, 'peak') + percent(bandwidthRatio, 'read bandwidth');
  process.stdout.write(
    args.includes('--json')
      ? `${JSON.stringify(line)}\n`
      : `${bench.padEnd(8)} ${name.padEnd(60)} ${value.toPrecision(4).padStart(10)} ${unit}${ratio}\n`,
  );
};
for (const name of names) await BENCHES[name]?.(print, { shape });
process.exit(0);
