/**
 * `r3 train --dry-run`: the resolved plan of a run, and what it will need, without weights, mining or training.
 *
 * Memory is planned from the model's config (`engine/local/memory.ts`). Seconds are estimated from what this machine's
 * kernels reach in a short measurement, times the share of it that whole models were seen to reach (LOG.md, section 6);
 * both are for turns as long as they may be.
 */
import { planMemory } from '../engine/local/memory.ts';
import { loadKernels } from '../kernels/load.ts';
import { readJsonl } from '../lib/jsonl.ts';
import type { PlayerOptions } from '../player.ts';
import { requireEnough } from '../train.ts';
import { samplesProblems } from '../method/choices.ts';
import { usesFailures, usesReference, type TrainOptions } from '../train-options.ts';
import { printLine, type Io } from './io.ts';
import { bytesText, memoryRows } from './memory.ts';
import { loraOf, usageError } from './options.ts';
import {
  adapterOf,
  findModel,
  findTask,
  kernelBuild,
  loadTaskProblems,
  modelConfig,
  playerOptions,
} from './session.ts';
import { renderTable } from './table.ts';
import { settleTinker } from './tinker.ts';
import { dataOf, trainOptionsOf, type TrainConfig, type TrainFlags } from './train-config.ts';

/** Shares of the measured peak in sampling many sequences and in training. */
const SAMPLING_SHARE = 0.5;
const TRAINING_SHARE = 0.6;
const PEAK_SECONDS = 0.3;
/** Forward and backward of a trained weight; of a frozen one, whose own gradient is not computed. */
const TRAINED_FLOPS = 6;
const FROZEN_FLOPS = 4;
const FORWARD_FLOPS = 2;
/** A prompt where no problem tells its length. */
const PROMPT_TOKENS = 300;

interface StepTokens {
  episodes: number;
  /** Of all turns at their longest. */
  sampled: number;
  /** Through the network forward and backward, shared prefixes once. */
  trained: number;
  /** Positions whose log-probability the start model gives. */
  scored: number;
}

export async function dryRun(flags: TrainFlags, sources: TrainConfig['sources'], io: Io): Promise<void> {
  if (flags.json === true) throw usageError('--json: expected a run, got --dry-run, which makes none');
  if (flags.model === undefined) throw usageError('--model: expected a folder with a config.json, got none');
  const options = trainOptionsOf(flags);
  if (flags.engine === 'tinker') {
    await remoteDryRun(flags.model, flags, sources, options, io);
    return;
  }
  const model = findModel(flags.model, io.env);
  const config = modelConfig(model, io.env, flags.context);
  const sampling = playerOptions(flags, config.contextLength);
  requireTurns(sampling, config.contextLength);
  const training = loraOf(flags) ?? adapterOf(model) ?? 'full';
  if (training === 'full' && flags.dtype === 'int8') {
    throw usageError('--dtype int8: expected --lora beside it, got training of all weights');
  }
  const tokens = stepTokens(options, sampling);
  const plan = planMemory(config, {
    dtype: flags.dtype,
    training,
    reference: usesReference(options),
    workload: {
      sampledTokens: options.failuresPerStep * PROMPT_TOKENS + tokens.sampled,
      trainedTokens: tokens.trained,
      scoredTokens: tokens.scored,
    },
  });
  const seconds = await estimateSeconds(plan.parameters, tokens, options, flags, io);

  printLine(io, renderTable(['option', 'value', 'from'], optionRows(flags, sources, options)));
  printLine(io, '');
  const rows: [string, string][] = [
    ...(await dataRows(flags, options)),
    ['episodes per step', `${tokens.episodes} (${groupsText(options)})`],
    ['tokens sampled per step, turns at their longest', `${tokens.sampled}${notCounted(options)}`],
    [
      'tokens trained through per step, the same',
      `${tokens.trained}, with shared prefixes once (prompts of ${PROMPT_TOKENS})`,
    ],
    ['tokens in one pass', `${plan.tokensKept}, or ${plan.tokensRecomputed} with layers computed again`],
    ...(options.maxStaleness === 0 ? [] : [aheadRow(options)]),
    ['checkpoint, two are kept', bytesText(12 * plan.trainedParameters)],
    ...memoryRows(plan),
    ['seconds per step, turns at their longest', seconds.toPrecision(2)],
    [`for all ${options.steps} steps, the same`, durationText(seconds * options.steps)],
  ];
  printLine(io, renderTable(['', 'needed'], rows));
}

function requireTurns({ maxReflectionTokens, maxAttemptTokens }: PlayerOptions, contextLength: number): void {
  const longest = maxReflectionTokens + maxAttemptTokens;
  if (longest <= contextLength) return;
  throw usageError(
    `a turn: expected reflection and retry within the context of ${contextLength} tokens, got ${longest}; lower --max-reflection-tokens or --max-attempt-tokens`,
  );
}

/** What a service will be asked for, in the kinds of tokens that services count. Nothing is sent to it. */
async function remoteDryRun(
  model: string,
  flags: TrainFlags,
  sources: TrainConfig['sources'],
  options: TrainOptions,
  io: Io,
): Promise<void> {
  const { contextLength } = settleTinker(model, flags, io.env);
  const sampling = playerOptions(flags, contextLength);
  requireTurns(sampling, contextLength);
  const step = remoteTokens(options, sampling);
  const data = await dataRows(flags, options);
  const mined = flags.problems === undefined ? 0 : Number.parseInt(data[0]?.[1] ?? '', 10) || 0;
  const attempts = mined * options.mining.samples * sampling.maxAttemptTokens;
  const { steps } = options;
  printLine(io, renderTable(['option', 'value', 'from'], optionRows(flags, sources, options)));
  printLine(io, '');
  printLine(io, renderTable(['', 'needed'], data));
  printLine(io, '');
  const rows = [
    ['prefilled', step.prefilled, mined * PROMPT_TOKENS],
    ['sampled', step.sampled, attempts],
    ['forward passes, to score', step.scored, 0],
    ['trained, forward and backward', step.trained, 0],
  ] as const;
  printLine(
    io,
    renderTable(
      ['tokens', 'per step', 'before it', `all ${steps} steps`],
      rows.map(([what, perStep, before]) => [what, perStep, before, before + steps * perStep]),
    ),
  );
  printLine(
    io,
    `turns at their longest, prompts of ${PROMPT_TOKENS} tokens, a prompt prefilled once for all samples of a request${notCounted(options)}; beside it the audit, about one step of sampling`,
  );
}

interface RemoteTokens {
  prefilled: number;
  sampled: number;
  scored: number;
  trained: number;
}

/** Every turn as long as it may be. A service computes each sequence whole. */
function remoteTokens(options: TrainOptions, sampling: PlayerOptions): RemoteTokens {
  const { maxReflectionTokens: reflection, maxAttemptTokens: attempt } = sampling;
  const { method, failuresPerStep: groups, retriesPerReflection, rounds } = options;
  const { episodes, sampled } = stepTokens(options, sampling);
  const asked = PROMPT_TOKENS + (samplesProblems(options) ? 0 : attempt);
  const turn = reflection + retriesPerReflection * attempt;
  let prefilled = groups * asked;
  let sequences = episodes * (asked + (method === 'reflect' ? reflection : attempt));
  if (method === 'reflect') {
    // Each round's retry follows its reflection; a later round's reflection follows the retry before it.
    for (let round = 0; round < rounds; round++) {
      if (round > 0) prefilled += episodes * (asked + round * turn);
      prefilled += episodes * (asked + round * turn + reflection);
    }
    if (options.trainTokens !== 'reflection' || rounds > 1) sequences = episodes * (asked + rounds * turn);
  }
  const isScored = usesReference(options);
  return {
    prefilled: prefilled + (isScored ? sequences : 0),
    sampled,
    scored: sequences * options.numIterations,
    trained: sequences * options.numIterations,
  };
}

function aheadRow({ maxStaleness }: TrainOptions): [string, string] {
  return ['steps sampled ahead', `${maxStaleness}; checkpoints hold their episodes too`];
}

function groupsText({ method, failuresPerStep, reflectionsPerFailure }: TrainOptions): string {
  if (method === 'reflect')
    return `${failuresPerStep} failures, ${reflectionsPerFailure} reflections on each`;
  return method === 'retries'
    ? `${failuresPerStep} failures, ${reflectionsPerFailure} retries after each`
    : `${failuresPerStep} problems, ${reflectionsPerFailure} attempts at each`;
}

function optionRows(
  flags: TrainFlags,
  sources: TrainConfig['sources'],
  { schedule: { warmupSteps: warmup } }: TrainOptions,
): [string, string, string][] {
  const values = flags as unknown as Record<string, unknown>;
  return Object.entries(sources)
    .filter(([name]) => !NOT_PLANNED.has(name) && !name.startsWith('no-'))
    .map(([name, source]) => {
      const value = values[name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())];
      const steps = name === 'warmup-steps' && Number(value) < 1 ? `, ${warmup} steps` : '';
      return [`--${name}`, `${String(value)}${steps}`, source];
    });
}

/** Options that are not part of a run. */
const NOT_PLANNED = new Set(['dry-run', 'debug', 'json', 'preset']);

async function dataRows(flags: TrainFlags, options: TrainOptions): Promise<[string, string][]> {
  const { task: name, failures, problems, limit } = flags;
  if (failures !== undefined || problems !== undefined) dataOf(flags, options);
  if (failures !== undefined) {
    const rows = [...readJsonl(failures)];
    requireEnough({ failures: rows, problems: [] }, options);
    return [['failures', String(rows.length)]];
  }
  const mined = usesFailures(options);
  if (problems === undefined) return [['problems', `not given: --problems${mined ? ' or --failures' : ''}`]];
  if (name === undefined) return [['problems', 'not read: --task is not given']];
  const { task } = await findTask(name, undefined, flags.prompts);
  const rows = await loadTaskProblems(task, problems, limit);
  if (!mined) requireEnough({ failures: [], problems: rows }, options);
  const mining = mined ? `, ${options.mining.samples} attempts at each to mine failures` : '';
  return [['problems', `${rows.length}${mining}`]];
}

/** Every turn as long as it may be. */
function stepTokens(
  options: TrainOptions,
  { maxReflectionTokens: reflection, maxAttemptTokens: attempt }: PlayerOptions,
): StepTokens {
  const { method, trainTokens, failuresPerStep: groups, reflectionsPerFailure } = options;
  const { retriesPerReflection, rounds } = options;
  const episodes = groups * reflectionsPerFailure;
  const turns = rounds * (reflection + retriesPerReflection * attempt);
  const prompts = groups * PROMPT_TOKENS;
  if (method !== 'reflect') {
    const scored = episodes * attempt;
    const shared = method === 'retries' ? prompts + groups * attempt : prompts;
    return { episodes, sampled: scored, trained: shared + scored, scored };
  }
  // Only the reflection of a single round ends what is trained; else the retries between count too.
  const whole = trainTokens !== 'reflection' || rounds > 1;
  const scored = episodes * (trainTokens === 'reflection' ? rounds * reflection : turns);
  const attempts = trainTokens === 'all' ? groups * options.mining.samples * attempt : 0;
  return {
    episodes,
    sampled: episodes * turns + attempts,
    trained: prompts + groups * attempt + (whole ? episodes * turns : scored) + attempts,
    scored: scored + attempts,
  };
}

/** What a step may do beyond what is counted. */
function notCounted({ firstAttempts, zeroVariance, distillationRate, refreshEvery }: TrainOptions): string {
  const more = [
    ...(firstAttempts === 'on-policy' ? ['attempts that look for failures'] : []),
    ...(refreshEvery === null ? [] : [`mining every ${refreshEvery} steps`]),
    ...(zeroVariance === 'refill' ? ['groups that are replaced, up to three times as many'] : []),
    ...(distillationRate === null ? [] : ['distillation']),
  ];
  return more.length === 0 ? '' : `; not counted: ${more.join(', ')}`;
}

/** On what these kernels reach here. */
async function estimateSeconds(
  parameters: number,
  { sampled, trained }: StepTokens,
  options: TrainOptions,
  flags: TrainFlags,
  io: Io,
): Promise<number> {
  const asked = kernelBuild(io.env);
  const ops = await loadKernels({
    ...(asked === undefined ? {} : { build: asked }),
    ...(flags.threads === undefined ? {} : { threads: flags.threads }),
  });
  try {
    const flops = 1e9 * ops.measurePeak(flags.dtype === 'int8' ? 'bf16' : flags.dtype, PEAK_SECONDS);
    const trainFlops = flags.lora === undefined ? TRAINED_FLOPS : FROZEN_FLOPS;
    const sampling = (FORWARD_FLOPS * parameters * sampled) / (SAMPLING_SHARE * flops);
    const training = (options.numIterations * trainFlops * parameters * trained) / (TRAINING_SHARE * flops);
    const reference = (FORWARD_FLOPS * parameters * trained) / (TRAINING_SHARE * flops);
    return sampling + training + (usesReference(options) ? reference : 0);
  } finally {
    ops.close();
  }
}

/** `3 days 4 h`, `5 h 6 min`, `7 min`. */
function durationText(seconds: number): string {
  const minutes = Math.max(1, Math.round(seconds / 60));
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60)];
  if (days > 0) return `${days} ${days === 1 ? 'day' : 'days'} ${hours} h`;
  return hours > 0 ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
}
