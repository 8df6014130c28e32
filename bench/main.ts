/**
 * npm run bench -- gemm|decode|weights|train|r3-step|model|remote [--shape qwen2.5-0.5b] [--json]
 *
 * Prints one line per case, JSON with --json. Ratios are measured side by side in one run; absolute numbers are
 * those of this machine, now. `r3-step --shape NAME` takes `--groups N`, and `--peers` to run TRL beside it.
 */
import { parseArgs } from 'node:util';
import { benchDecode, benchGemm, benchWeights } from './gemm.ts';
import type { BenchLine, BenchOptions, Emit } from './harness.ts';
import { benchModelShape } from './model.ts';
import { benchR3Step } from './r3-step.ts';
import { benchRemote } from './remote.ts';
import { benchTrain } from './train.ts';

const BENCHES: Record<string, (emit: Emit, options: BenchOptions) => Promise<void>> = {
  gemm: benchGemm,
  decode: benchDecode,
  weights: benchWeights,
  train: benchTrain,
  'r3-step': benchR3Step,
  model: benchModelShape,
  remote: benchRemote,
};

const { values: options, positionals: names } = parse();
const unknown = names.find((name) => !Object.hasOwn(BENCHES, name));
if (unknown !== undefined || names.length === 0)
  refuse(`expected ${Object.keys(BENCHES).join(', ')}, got ${unknown ?? 'nothing'}`);
const { shape, peers } = options;
const groups = options.groups === undefined ? undefined : Number(options.groups);
if (groups !== undefined && !(Number.isInteger(groups) && groups > 0))
  refuse(`--groups: expected an integer above 0, got ${options.groups}`);

const print = (line: BenchLine): void => {
  const { bench, case: name, value, unit, peakRatio, bandwidthRatio } = line;
  const percent = (ratio: number | undefined, of: string): string =>
    ratio === undefined ? '' : `  ${(100 * ratio).toFixed(1)}% of ${of}`;
  const ratio = percent(peakRatio, 'peak') + percent(bandwidthRatio, 'read bandwidth');
  process.stdout.write(
    options.json
      ? `${JSON.stringify(line)}\n`
      : `${bench.padEnd(8)} ${name.padEnd(60)} ${String(Number(value.toPrecision(4))).padStart(10)} ${unit}${ratio}\n`,
  );
};
for (const name of names) await BENCHES[name]?.(print, { shape, groups, peers });
process.exit(0);

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        shape: { type: 'string' },
        groups: { type: 'string' },
        peers: { type: 'boolean' },
        json: { type: 'boolean' },
      },
    });
  } catch (error) {
    return refuse((error as Error).message);
  }
}

function refuse(message: string): never {
  process.stderr.write(`bench: ${message}\n`);
  process.exit(2);
}
