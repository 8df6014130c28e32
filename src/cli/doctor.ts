/**
 * `r3 doctor`: what this machine offers (kernel builds, which is used and why, threads, speed, memory), and what a
 * model needs of it: bytes by purpose for the given options and step, and with --measure the seconds of such a step.
 */
import { arch, cpus, freemem, platform, totalmem } from 'node:os';
import type { Command } from 'commander';
import { ACTIVATION_BYTES } from '../engine/local/core.ts';
import { keepBytesOf, planMemory, type MemoryPlan } from '../engine/local/memory.ts';
import { explainKernels, loadKernels, type KernelReport } from '../kernels/load.ts';
import { printJson, printLine, type Io } from './io.ts';
import { measureStep, type StepEstimate, type StepShape } from './measure-step.ts';
import { bytesText, memoryRows } from './memory.ts';
import {
  addEngineOptions,
  addExamples,
  addLoraOptions,
  givenOptions,
  integer,
  loraOf,
  usageError,
  type EngineFlags,
  type LoraFlags,
} from './options.ts';
import { adapterOf, engineOptions, findModel, kernelBuild, loraOptions, modelConfig } from './session.ts';
import { renderTable } from './table.ts';

/** Long enough for clocks to settle, short enough to wait for. */
const PEAK_SECONDS = 0.3;

interface Flags extends EngineFlags, LoraFlags, StepShape {
  model?: string;
  measure?: boolean;
  json?: boolean;
}

interface Machine {
  node: string;
  platform: string;
  cpu: string;
  cores: number;
  memory: { totalBytes: number; freeBytes: number };
  kernels: {
    builds: KernelReport[];
    used: { build: string; variant: string; threads: number; why: string };
    peakGflops: { f32: number; bf16: number };
  };
}

interface Needs {
  sampling: MemoryPlan;
  /** null: not in this precision. */
  training: MemoryPlan | null;
  step: StepShape;
  seconds?: StepEstimate;
}

export function define(command: Command, io: Io): void {
  command
    .description(
      'Shows which kernels run here and why, how fast they are, and with --model what a model needs to sample and to train.',
    )
    .option('--model <dir>', 'a model (folder or name): its parameters, and memory to sample and to train')
    .option(
      '--measure',
      'open the model, compute a little of a step, and estimate the seconds of a whole one',
    )
    .addOption(integer('--groups <n>', 'a step: failures, each with its reflections', { min: 1 }).default(4))
    .addOption(integer('--num-generations <n>', 'a step: reflections on each failure', { min: 1 }).default(8))
    .addOption(
      integer('--prompt-tokens <n>', 'a step: tokens before a reflection, attempt included', {
        min: 1,
      }).default(300),
    )
    .addOption(integer('--reflection-tokens <n>', 'a step: tokens of a reflection', { min: 1 }).default(96))
    .addOption(
      integer('--bridge-tokens <n>', 'a step: tokens between reflection and retry', { min: 1 }).default(40),
    )
    .addOption(integer('--retry-tokens <n>', 'a step: tokens of a retry', { min: 1 }).default(64));
  addEngineOptions(addLoraOptions(command)).option('--json', 'all of it as one line of JSON');
  addExamples(
    command,
    `
  r3 doctor
  r3 doctor --model DIR --dtype bf16 --lora 16 --measure
  R3_KERNELS=wasm r3 doctor --threads 1`,
  );
  command.action((flags: Flags) => doctor(flags, givenOptions(command), io));
}

async function doctor(flags: Flags, given: readonly string[], io: Io): Promise<void> {
  if (flags.model === undefined) {
    const alone = given.filter((name) => !['--threads', '--json', '--debug'].includes(name));
    if (alone.length > 0) throw usageError(`${alone[0]}: expected --model beside it, got none`);
  }
  const model = flags.model === undefined ? undefined : findModel(flags.model, io.env);
  const plans = model === undefined ? undefined : plansOf(model, flags, given, io);
  const machine = await examine(flags.threads, io);
  const needs =
    plans !== undefined && model !== undefined && flags.measure === true
      ? {
          ...plans,
          seconds: await measureStep(io, plans.step, {
            model,
            ...engineOptions(flags),
            ...loraOptions(flags),
          }),
        }
      : plans;
  if (flags.json === true) {
    printJson(io, { ...machine, ...(needs === undefined ? {} : { model: needs }) });
    return;
  }
  giveMachine(machine, io);
  if (needs !== undefined) giveModel(needs, machine, io);
}

function plansOf(model: string, flags: Flags, given: readonly string[], io: Io): Needs {
  const config = modelConfig(model, io.env, flags.context);
  const step = stepOf(flags, given, config.contextLength);
  const { groups, numGenerations, promptTokens, reflectionTokens, bridgeTokens, retryTokens } = step;
  const lora = loraOf(flags) ?? adapterOf(model);
  const scoredTokens = groups * numGenerations * reflectionTokens;
  const workload = {
    sampledTokens: groups * (promptTokens + numGenerations * (reflectionTokens + bridgeTokens + retryTokens)),
    trainedTokens: groups * promptTokens + scoredTokens,
    scoredTokens,
  };
  const plan = (training: 'none' | 'full' | NonNullable<typeof lora>): MemoryPlan => {
    const options = {
      dtype: flags.dtype,
      training,
      reference: training !== 'none',
      adapter: adapterOf(model),
      workload,
    };
    const keepBytes = Math.max(ACTIVATION_BYTES, keepBytesOf(config, options, freemem()));
    return planMemory(config, { ...options, keepBytes });
  };
  // All weights are not trained in int8.
  const trains = lora !== undefined || flags.dtype !== 'int8';
  return { sampling: plan('none'), training: trains ? plan(lora ?? 'full') : null, step };
}

/** The step that is planned for: as given; by default the same one, made smaller where the context is. */
function stepOf(flags: StepShape, given: readonly string[], contextLength: number): StepShape {
  const { groups, numGenerations, ...tokens } = flags;
  const { promptTokens, reflectionTokens, bridgeTokens, retryTokens } = tokens;
  const longest = promptTokens + reflectionTokens + bridgeTokens + retryTokens;
  if (
    longest > contextLength &&
    given.some((name) => /^--(prompt|reflection|bridge|retry)-tokens$/.test(name))
  ) {
    throw usageError(
      `a step: expected prompt, reflection, bridge and retry within the context of ${contextLength} tokens, got ${longest}; ask for fewer, or for a longer --context`,
    );
  }
  const fit = (count: number): number =>
    Math.max(1, Math.floor(count * Math.min(1, contextLength / longest)));
  return {
    groups,
    numGenerations,
    promptTokens: fit(promptTokens),
    reflectionTokens: fit(reflectionTokens),
    bridgeTokens: fit(bridgeTokens),
    retryTokens: fit(retryTokens),
  };
}

async function examine(threadCount: number | undefined, io: Io): Promise<Machine> {
  const asked = kernelBuild(io.env);
  const builds = explainKernels();
  const ops = await loadKernels({
    ...(asked === undefined ? {} : { build: asked }),
    ...(threadCount === undefined ? {} : { threads: threadCount }),
  });
  try {
    const why =
      asked === undefined ? 'the first of native, wasm and reference that loads here' : `R3_KERNELS=${asked}`;
    return {
      node: process.version,
      platform: `${platform()} ${arch()}`,
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      cores: cpus().length,
      memory: { totalBytes: totalmem(), freeBytes: freemem() },
      kernels: {
        builds,
        used: { build: ops.build, variant: ops.variant, threads: ops.threads, why },
        peakGflops: {
          f32: ops.measurePeak('f32', PEAK_SECONDS),
          bf16: ops.measurePeak('bf16', PEAK_SECONDS),
        },
      },
    };
  } finally {
    ops.close();
  }
}

function giveMachine({ node, platform: system, cpu, cores, memory, kernels }: Machine, io: Io): void {
  const { builds, used, peakGflops } = kernels;
  const rows: [string, string][] = [
    ['Node', `${node}, ${system}`],
    ['processor', `${cpu}, ${cores} cores`],
    ['memory', `${bytesText(memory.totalBytes)}, ${bytesText(memory.freeBytes)} free`],
    ...builds.map(({ build, available, detail }): [string, string] => [
      `kernels, ${build}`,
      `${available ? 'loads' : 'does not load'}: ${detail}`,
    ]),
    ['used', `${used.build} (${used.variant}), ${used.threads} threads: ${used.why}`],
    ['peak, f32', `${peakGflops.f32.toFixed(0)} GFLOP/s`],
    ['peak, bf16', `${peakGflops.bf16.toFixed(0)} GFLOP/s`],
  ];
  printLine(io, renderTable(['', 'here'], rows));
}

function giveModel({ sampling, training, step, seconds }: Needs, { memory }: Machine, io: Io): void {
  const columns = [memoryRows(sampling), ...(training === null ? [] : [memoryRows(training)])];
  const rows = memoryRows(sampling).map(([name], row) => [
    name,
    ...columns.map((column) => column[row]?.[1] ?? ''),
  ]);
  const { groups, numGenerations: G, promptTokens, reflectionTokens, bridgeTokens, retryTokens } = step;
  printLine(
    io,
    `\na step of ${groups} groups of ${G}: prompt ${promptTokens}, reflection ${reflectionTokens}, bridge ${bridgeTokens}, retry ${retryTokens} tokens`,
  );
  printLine(io, renderTable(['', 'to sample', ...(training === null ? [] : ['to train'])], rows));
  if (seconds !== undefined) {
    const { sample, train, total } = seconds;
    printLine(
      io,
      `\nseconds per step, estimated from a short measurement: ${total.toPrecision(3)} (sampling ${sample.toPrecision(3)}, training ${train.toPrecision(3)})`,
    );
  }
  if (training !== null && training.totalBytes > memory.totalBytes) {
    printLine(
      io,
      `training needs ${bytesText(training.totalBytes)}: more than this machine's ${bytesText(memory.totalBytes)}. Less: --dtype bf16 or int8 with --lora, fewer or shorter reflections, a smaller --context.`,
    );
  }
}
