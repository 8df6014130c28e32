/**
 * `r3 doctor`: what this machine offers (kernel builds, which is used and why, threads, speed, memory), and what a
 * model needs of it.
 */
import { arch, cpus, freemem, platform, totalmem } from 'node:os';
import type { Command } from 'commander';
import { loadModelConfig } from '../engine/local/config.ts';
import { explainKernels, loadKernels, type KernelReport } from '../kernels/load.ts';
import { printJson, printLine, type Io } from './io.ts';
import { bytesText, memoryRows, planMemory, type MemoryPlan } from './memory.ts';
import { addExamples, threads } from './options.ts';
import { checkModel, kernelBuild } from './session.ts';
import { renderTable } from './table.ts';

/** Long enough for clocks to settle, short enough to wait for. */
const PEAK_SECONDS = 0.3;
/** Multiply-adds count as two; a gradient costs twice the forward pass. */
const FLOPS_PER_WEIGHT_TOKEN = 6;

interface Flags {
  model?: string;
  threads?: number;
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

const USES = {
  'sample, f32': { dtype: 'f32', trainable: false, reference: false },
  'sample, bf16': { dtype: 'bf16', trainable: false, reference: false },
  'train, f32': { dtype: 'f32', trainable: true, reference: true },
  'train, bf16': { dtype: 'bf16', trainable: true, reference: true },
} as const;

export function define(command: Command, io: Io): void {
  command
    .description(
      'Shows which kernels run here and why, how fast they are, and with --model what a model needs.',
    )
    .option('--model <dir>', 'a model folder: its parameters, and memory to sample and to train')
    .addOption(threads())
    .option('--json', 'all of it as one line of JSON');
  addExamples(
    command,
    `
  r3 doctor
  r3 doctor --model DIR
  R3_KERNELS=wasm r3 doctor --threads 1`,
  );
  command.action((flags: Flags) => doctor(flags, io));
}

async function doctor(flags: Flags, io: Io): Promise<void> {
  if (flags.model !== undefined) checkModel(flags.model);
  const machine = await examine(flags.threads, io);
  const plans =
    flags.model === undefined
      ? undefined
      : Object.entries(USES).map(([use, options]) => ({ use, plan: planOf(flags.model ?? '', options) }));
  if (flags.json === true) {
    const model =
      plans === undefined ? {} : { model: Object.fromEntries(plans.map(({ use, plan }) => [use, plan])) };
    printJson(io, { ...machine, ...model });
    return;
  }
  giveMachine(machine, io);
  if (plans !== undefined) giveModel(plans, machine, io);
}

function planOf(model: string, options: (typeof USES)[keyof typeof USES]): MemoryPlan {
  return planMemory(loadModelConfig(model).config, options);
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

function giveModel(
  plans: readonly { use: string; plan: MemoryPlan }[],
  { kernels, memory }: Machine,
  io: Io,
): void {
  const columns = plans.map(({ plan }) => memoryRows(plan));
  const rows = (columns[0] ?? []).map(([name], row) => [
    name,
    ...columns.map((column) => column[row]?.[1] ?? ''),
  ]);
  printLine(io, `\n${renderTable(['', ...plans.map(({ use }) => use)], rows)}`);
  const training = plans.filter(({ plan }) => plan.optimizerBytes > 0);
  const tokens = training.map(({ use, plan }) => {
    const peak = use.endsWith('bf16') ? kernels.peakGflops.bf16 : kernels.peakGflops.f32;
    const perSecond = (peak * 1e9) / (FLOPS_PER_WEIGHT_TOKEN * plan.parameters);
    return `${Number(perSecond.toPrecision(2)).toLocaleString('en')} (${use})`;
  });
  printLine(io, `\ntrained tokens per second, at the peak and no more: ${tokens.join(', ')}`);
  const most = Math.max(...plans.map(({ plan }) => plan.totalBytes));
  if (most > memory.totalBytes) {
    printLine(
      io,
      `training may need ${bytesText(most)}: more than this machine's ${bytesText(memory.totalBytes)}`,
    );
  }
}
