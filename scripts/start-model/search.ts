/**
 * Searches settings of the quick start: one run for each line of options, one line of results for each run.
 *
 *   node scripts/run-ts.mjs scripts/start-model/search.ts --out DIR --set '{"beta":0.1}' --set '{"learningRate":3e-4}' \
 *     [--task countdown] [--seed 1] [--model DIR] [--problems 1000] [--split choose]
 *
 * Measures on the split `choose`, whose problems no result is reported on, or on the one that is named. Prints JSON lines.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { EXHIBITS, type Exhibit } from '../../src/exhibits.ts';
import { runQuickstart } from '../../src/quickstart.ts';
import type { TrainOptions } from '../../src/train-options.ts';

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    task: { type: 'string', default: 'countdown' },
    'shuffle-rewards': { type: 'boolean', default: false },
    set: { type: 'string', multiple: true, default: ['{}'] },
    seed: { type: 'string', multiple: true, default: ['1'] },
    model: { type: 'string' },
    problems: { type: 'string', default: '1000' },
  },
});
if (values.out === undefined) throw new Error('--out: expected a folder for the runs, got none');

const found = Object.entries(EXHIBITS).find(([name]) => name === values.task)?.[1];
if (found === undefined)
  throw new Error(`--task: expected ${Object.keys(EXHIBITS).join(' or ')}, got ${values.task}`);
const exhibit: Exhibit = found;

const points = (x: number): number => Math.round(1000 * x) / 10;
for (const set of values.set) {
  for (const seed of values.seed) {
    const train = JSON.parse(set) as Partial<TrainOptions>;
    const name = `${set.replace(/[^\w.-]+/g, '_')}-${seed}`;
    const { summary, profile, lastSteps, steps } = await runQuickstart(
      {
        exhibit,
        seed: Number(seed),
        shuffleRewards: values['shuffle-rewards'],
        runDirectory: join(values.out, name),
        engine: {},
        search: {
          train,
          heldOut: exhibit.problems('choose', Number(values.problems)),
          ...(values.model === undefined ? {} : { model: values.model }),
        },
      },
      { phase: () => undefined, update: () => undefined },
    );
    const { before, after, greedy, change } = summary;
    const both = (pick: (s: typeof before) => { rate: number }): number[] =>
      [before, after, greedy.before, greedy.after].map((s) => points(pick(s).rate));
    console.log(
      JSON.stringify({
        set: train,
        seed: Number(seed),
        first: both((s) => s.firstTry),
        second: both((s) => s.secondTry),
        two: [points(before.twoIndependent.rate), points(after.twoIndependent.rate)],
        equalTokens: points(after.independentAtEqualTokens.rate),
        written: points(change.writtenByTrained.diff),
        kl: lastSteps.kl.toFixed(3),
        klMost: Math.max(...steps.map((s) => s.metrics['kl'] ?? 0)).toFixed(3),
        trueHints: [points(profile.before.trueHints), points(profile.after.trueHints)],
        kinds: Object.fromEntries(
          Object.entries(profile.after.kinds).map(([kind, share]) => [kind, points(share)]),
        ),
        tokens: profile.after.meanTokens.toFixed(1),
        seconds: summary.wallSeconds,
      }),
    );
  }
}
process.exit(0);
