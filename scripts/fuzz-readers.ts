/**
 * Feeds hostile input to every reader of a model folder and prints how many were accepted and refused.
 *
 *   node scripts/run-ts.mjs scripts/fuzz-readers.ts [--inputs 1000000] [--seed N]
 *
 * Ends with an error that names the seed and the input when a reader throws anything but an R3Error, reads past the
 * file or gives a result that is not valid. Prints the seed first, so that a run that hangs can be repeated.
 */
import { parseArgs } from 'node:util';
import { fuzzReaders } from '../src/engine/local/fuzz-testing.ts';

const { values } = parseArgs({
  options: { inputs: { type: 'string', default: '1000000' }, seed: { type: 'string' } },
});
const inputs = Number(values.inputs);
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed);
console.log(`seed ${seed}, ${inputs} inputs`);
const start = performance.now();
const results = fuzzReaders(seed, 0, inputs);
for (const [name, { accepted, refused, slowestMs }] of Object.entries(results)) {
  console.log(`${name}: ${accepted} accepted, ${refused} refused, slowest ${slowestMs.toFixed(1)} ms`);
}
const peakMib = process.resourceUsage().maxRSS / 1024;
console.log(`${((performance.now() - start) / 1000).toFixed(0)} s, peak ${peakMib.toFixed(0)} MiB`);
