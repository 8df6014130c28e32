/**
 * Feeds hostile text to every parser of calls and prints how many texts were read and refused.
 *
 *   node scripts/run-ts.mjs scripts/fuzz-parsers.ts [--inputs 1000000] [--seed N] [--style python]
 *
 * `--inputs` is for each parser. Ends with an error that names the seed and the input when a parser throws, gives a
 * result that is not well-formed, reads a right text wrongly or evaluates anything. Prints the seed first, so that a
 * run that hangs can be repeated.
 */
import { parseArgs } from 'node:util';
import { fuzzStyle } from '../src/tasks/verify/call-styles/fuzz-testing.ts';
import { STYLES, STYLE_NAMES } from '../src/tasks/verify/call-styles/styles.ts';

const { values } = parseArgs({
  options: {
    inputs: { type: 'string', default: '1000000' },
    seed: { type: 'string' },
    style: { type: 'string' },
  },
});
const count = Number(values.inputs);
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed);
console.log(`seed ${seed}, ${count} inputs for each parser`);
const others = STYLE_NAMES.map((name) => STYLES[name]);
for (const name of STYLE_NAMES) {
  if (values.style !== undefined && values.style !== name) continue;
  const start = performance.now();
  const { read, refused, slowestMs } = fuzzStyle(STYLES[name], others, { seed, from: 0, count });
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  console.log(`${name}: ${read} read, ${refused} refused, slowest ${slowestMs.toFixed(1)} ms, ${seconds} s`);
}
console.log(`peak ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`);
