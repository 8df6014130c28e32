/**
 * Runs an experiment: every arm, from every start model, with every seed.
 *
 *   npm run experiments -- NAME|all [--out DIR] [--seed 1 --seed 2 --seed 3] [--arm NAME ...] [--threads N] \
 *     [--rare 2=DIR] [--common 1=DIR --common 2=DIR] [--calls 2=DIR] [--both 1=DIR --both 2=DIR] [--large 1=DIR]
 *
 * Start models are named by the number of their warm-up: the shipped ones are `rare` and `calls` of warm-up 1,
 * `scripts/start-model/make.ts` makes others (`common` is Countdown's after phase 3, `both` is --recipe both, `large` is
 * --shape large). An arm without its start model is not run; a result of this version that is there is not run again. Results are in docs/experiments by default; the page docs/experiments.md is made of all of them.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../src/lib/errors.ts';
import { EXHIBITS, type Exhibit } from '../../src/exhibits.ts';
import { runQuickstart, type QuickstartResult } from '../../src/quickstart.ts';
import { parseArguments, type Arguments } from './arguments.ts';
import { HELD_OUT, type Arm } from './definitions.ts';
import { writePage } from './page.ts';
import { readResult, resultPath, writeResult, type ArmResult, type RunName } from './result.ts';
import { makeStartRows } from './start-rows.ts';
import { measureUntouched } from './untouched.ts';

const PAGE_FOLDER = fileURLToPath(new URL('../../docs/experiments', import.meta.url));
const { arms, seeds, starts, threads, out = PAGE_FOLDER } = argumentsGiven();
const startRows = makeStartRows();
for (const seed of seeds) {
  for (const arm of arms) {
    for (const [warmUp, model] of starts[arm.start ?? 'rare']) {
      const path = resultPath(out, { arm: arm.name, warmUp, seed });
      if (readResult(path) !== undefined) continue;
      const started = performance.now();
      const result = await runArm(arm, warmUp, model, seed);
      writeResult(out, result);
      const { before, after } = result.summary;
      const points = (rate: number): string => (100 * rate).toFixed(1);
      console.log(
        `${arm.name}, warm-up ${warmUp}, seed ${seed}: second ${points(before.secondTry.rate)} to ${points(after.secondTry.rate)}, first ${points(before.firstTry.rate)} to ${points(after.firstTry.rate)}, ${((performance.now() - started) / 1000).toFixed(0)} s`,
      );
    }
  }
}
writePage(out);
process.exit(0);

/** A wrong argument is a person's mistake: no stack. */
function argumentsGiven(): Arguments {
  try {
    return parseArguments(process.argv.slice(2));
  } catch (error) {
    console.error(messageOf(error));
    return process.exit(2);
  }
}

async function runArm(
  arm: Arm,
  warmUp: number,
  model: string,
  seed: number,
): Promise<Omit<ArmResult, 'version'>> {
  const own = arm.start === 'calls' ? 'function-calling' : 'countdown';
  const exhibit: Exhibit = EXHIBITS[arm.exhibit ?? own];
  const folder = mkdtempSync(join(tmpdir(), 'experiment-'));
  try {
    const result = await runQuickstart(
      {
        exhibit,
        seed,
        shuffleRewards: arm.shuffleRewards ?? false,
        runDirectory: join(folder, 'run'),
        engine: threads === undefined ? {} : { threads },
        search: {
          train: arm.train ?? {},
          heldOut: exhibit.problems('report', HELD_OUT),
          model,
          startRowsAt: (temperature) => startRows([model, exhibit.task.name, seed, temperature].join(' ')),
        },
      },
      { phase: () => undefined, update: () => undefined },
    );
    const untouched =
      arm.untouched === undefined
        ? null
        : await measureUntouched(EXHIBITS[arm.untouched], model, join(folder, 'run', 'model'), seed);
    const startModel = createHash('sha256')
      .update(readFileSync(join(model, 'model.safetensors')))
      .digest('hex');
    return { ...resultOf({ arm: arm.name, warmUp, seed }, result), startModel, untouched };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function resultOf(
  run: RunName,
  { summary, profile, lastSteps, steps }: QuickstartResult,
): Omit<ArmResult, 'version' | 'startModel' | 'untouched'> {
  const { n, temperature, kernels, before, after, greedy, change, writerByReader, details } = summary;
  return {
    ...run,
    kernels,
    summary: { n, temperature, before, after, greedy, change, writerByReader },
    afterEmptyReflection: {
      before: details.before.afterEmptyReflection,
      after: details.after.afterEmptyReflection,
    },
    attemptsAtEqualTokens: {
      before: details.before.attemptsAtEqualTokens,
      after: details.after.attemptsAtEqualTokens,
    },
    forced: {
      before: details.before.afterForcedBeginning.rate,
      greedyBefore: details.greedy.before.afterForcedBeginning.rate,
    },
    profile,
    kl: lastSteps.kl,
    withoutSignal: lastSteps.withoutSignal,
    trainSeconds: steps.reduce((sum, { seconds }) => sum + seconds.sample + seconds.train, 0),
  };
}
