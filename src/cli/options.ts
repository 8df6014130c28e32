/**
 * Options whose values are read strictly: `--steps 1e3x` is an error that names the option, what was expected and
 * what was got, never a number. Also the groups of options that several commands have in common.
 */
import { Option, type Command } from 'commander';
import type { LoraOptions } from '../engine/local/lora.ts';
import { R3Error } from '../lib/errors.ts';
import type { Schedule } from '../schedule.ts';
import { TOLD, type Told } from '../player.ts';
import type { TrainOptions } from '../train-options.ts';

const LARGEST_SEED = 2 ** 32 - 1;
/** What the kernels' pool can hold. */
const MAX_THREADS = 64;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** A mistake in the command line: exit code 2. */
export function usageError(message: string): R3Error {
  return new R3Error('config', 'bad-option', message);
}

/**
 * What `make` gives; its complaints, which name options as code does (`epsilonHigh: expected ...`), name them as flags.
 * `names`: every option that a message may speak of; those of one word only where a message begins with them.
 */
export function inFlags<T>(names: readonly string[], make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof R3Error && error.code === 'bad-option')) throw error;
    const flag = (name: string): string =>
      `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    const first = new RegExp(`^(${names.join('|')})(?![\\w-])`);
    const long = names.filter((name) => /[A-Z-]/.test(name));
    const known = new RegExp(`(?<![\\w-])(${long.join('|')})(?![\\w-])`, 'g');
    throw usageError(error.message.replace(first, flag).replace(known, flag));
  }
}

/** `a, b or c`. */
export function orList(values: readonly string[]): string {
  return values.length < 2 ? values.join('') : `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`;
}

export interface NumberRange {
  min?: number;
  max?: number;
  /** Greater than this, where `min` is not reached itself. */
  above?: number;
  /** Less than this, where `max` is not reached itself. */
  below?: number;
}

/** A whole number; `1e3` is one. */
export function integer(flags: string, description: string, range: NumberRange = {}): Option {
  return numeric(flags, description, range, 'a whole number', Number.isSafeInteger, Number.MAX_SAFE_INTEGER);
}

export function real(flags: string, description: string, range: NumberRange = {}): Option {
  return numeric(flags, description, range, 'a number', Number.isFinite, Number.MAX_VALUE);
}

export function seed(description: string): Option {
  return integer('--seed <n>', description, { min: 0, max: LARGEST_SEED });
}

/** Threads of the engine. */
export function threads(): Option {
  const description =
    'threads; results do not depend on it (default: one per core, less one of four or more)';
  return integer('--threads <n>', description, { min: 1, max: MAX_THREADS });
}

/** One of a closed set. */
export function choice(flags: string, description: string, values: readonly string[]): Option {
  const option = new Option(flags, description).choices(values);
  return option.argParser((text: string) => {
    if (values.includes(text)) return text;
    throw usageError(`${option.long}: expected ${orList(values)}, got ${JSON.stringify(text)}`);
  });
}

/** May be given several times, and takes several values each time when its flags say `<value...>`. */
export function repeated(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text: string, before: string[] | undefined) => [
    ...(before ?? []),
    text,
  ]);
}

function numeric(
  flags: string,
  description: string,
  { min, max, above, below }: NumberRange,
  kind: string,
  isKind: (value: number) => boolean,
  largest: number,
): Option {
  const limits = [
    ...(above === undefined ? [] : [`above ${above}`]),
    ...(min === undefined ? [] : [max === undefined ? `of at least ${min}` : `from ${min} to ${max}`]),
    ...(min === undefined && max !== undefined ? [`of at most ${max}`] : []),
    ...(below === undefined ? [] : [`below ${below}`]),
  ].join(', ');
  const expected = limits === '' ? kind : `${kind} ${limits}`;
  const option = new Option(flags, description);
  return option.argParser((text: string) => {
    const value = NUMBER.test(text) ? Number(text) : Number.NaN;
    const fits =
      isKind(value) &&
      value >= (min ?? -Infinity) &&
      value <= (max ?? Infinity) &&
      value > (above ?? -Infinity) &&
      value < (below ?? Infinity);
    if (fits) return value;
    const most = value > largest && max === undefined ? `, at most ${largest}` : '';
    throw usageError(`${option.long}: expected ${expected}${most}, got ${JSON.stringify(text)}`);
  });
}

/** Which of these options (`--steps`) the command line gave a value, as opposed to their defaults. */
export function givenOptions(command: Command): string[] {
  return command.options
    .filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli')
    .flatMap(({ long }) => long ?? []);
}

/** What computes: this process, a server of chat completions, or a service that also trains. */
export type EngineName = 'local' | 'openai' | 'tinker';

const ENGINE_HELP = {
  openai: 'openai: any server of OpenAI chat completions',
  tinker: 'tinker: a Tinker-compatible service (docs/tinker.md)',
};

/** `--engine`; of commands that work on one engine only it is not in the help, and is there to say why. */
export function engineOption(engines: readonly EngineName[]): Option {
  const option = new Option(
    '--engine <name>',
    `local${engines
      .filter((name) => name !== 'local')
      .map((name) => `, or ${ENGINE_HELP[name]}`)
      .join('')}, at --url (default: local)`,
  );
  option.argParser((text: string) => {
    if (engines.some((name) => name === text)) return text;
    const why =
      text === 'openai'
        ? ': its server takes messages and gives texts, without token ids, log-probabilities of them or gradients; r3 eval works with that'
        : '';
    throw usageError(`--engine: expected ${orList(engines)}, got ${JSON.stringify(text)}${why}`);
  });
  return engines.length === 1 ? option.hideHelp() : option;
}

export interface EngineFlags {
  engine?: EngineName;
  dtype: 'f32' | 'bf16' | 'int8';
  threads?: number;
  context?: number;
}

/** What computes, and how the embedded engine does it. */
export function addEngineOptions(command: Command, engines: readonly EngineName[] = ['local']): Command {
  return command
    .addOption(engineOption(engines))
    .addOption(
      choice(
        '--dtype <type>',
        'weights in products: f32, bf16, or int8 where they are not trained; sums are f32 in all',
        ['f32', 'bf16', 'int8'],
      ).default('f32'),
    )
    .addOption(
      integer('--context <n>', "longest sequence, in tokens (default: the model's, at most 4096)", {
        min: 1,
      }),
    )
    .addOption(threads());
}

export interface LoraFlags {
  passTokens?: number;
  lora?: number;
  loraAlpha?: number;
  loraDropout?: number;
  rslora?: boolean;
  targetModules?: string[];
  loraLayers?: number[];
}

/** How weights are trained: passes, and adapters on frozen weights with PEFT's names. */
export function addLoraOptions(command: Command): Command {
  return command
    .addOption(
      integer(
        '--pass-tokens <n>',
        'most tokens that go through the network at a time in training; gradients of the passes add up (default: as memory allows)',
        { min: 1 },
      ),
    )
    .addOption(
      integer('--lora <rank>', 'train a LoRA adapter of this rank and keep the weights as they are', {
        min: 1,
      }),
    )
    .addOption(
      real('--lora-alpha <x>', 'its product is scaled by alpha / rank (default: twice the rank)', {
        above: 0,
      }),
    )
    .addOption(
      real('--lora-dropout <x>', "share of the adapter's inputs dropped in training (default: 0)", {
        min: 0,
        below: 1,
      }),
    )
    .option('--rslora', 'scale by alpha / sqrt(rank) instead')
    .addOption(
      repeated(
        '--target-modules <name...>',
        'linear layers with adapters, such as q_proj v_proj (default: all but the head)',
      ),
    )
    .addOption(integerList('--lora-layers <n...>', 'layers with adapters, counted from 0 (default: all)'));
}

/** The adapter that flags ask for. Throws a usage error for an option of one without --lora. */
export function loraOf(flags: LoraFlags): LoraOptions | undefined {
  const { lora: rank, loraAlpha, loraDropout, rslora, targetModules, loraLayers } = flags;
  if (rank === undefined) {
    const others = { loraAlpha, loraDropout, rslora, targetModules, loraLayers };
    const [given] = Object.entries(others).find(([, value]) => value !== undefined) ?? [];
    if (given === undefined) return undefined;
    const flag = given.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw usageError(`--${flag}: expected --lora with a rank beside it, got none`);
  }
  return {
    rank,
    alpha: loraAlpha ?? 2 * rank,
    dropout: loraDropout ?? 0,
    rsLora: rslora ?? false,
    targets: targetModules?.join() === 'all-linear' ? 'all-linear' : (targetModules ?? 'all-linear'),
    layers: loraLayers ?? null,
  };
}

/** Whole numbers of at least 0. */
function integerList(flags: string, description: string): Option {
  const one = integer(flags, description, { min: 0 });
  const parse = one.parseArg as unknown as (text: string) => number;
  return new Option(flags, description).argParser((text: string, before: number[] | undefined) => [
    ...(before ?? []),
    parse(text),
  ]);
}

/** The optimizer, as a loop takes it. */
export type OptimizerOptions = Pick<TrainOptions, 'learningRate' | 'schedule' | 'adam'>;

export interface OptimizerFlags {
  learningRate: number;
  schedule: Schedule['kind'];
  warmupSteps: number;
  flatSteps: number;
  floor: number;
  adamBeta1: number;
  adamBeta2: number;
  adamEpsilon: number;
  weightDecay: number;
  /** False: no clipping. */
  maxGradNorm: number | false;
}

/** AdamW and its learning rate. Names are TRL's where it has them. */
export function addOptimizerOptions(command: Command, defaults: OptimizerOptions): Command {
  const { learningRate, schedule, adam } = defaults;
  const decay = { min: 0, below: 1 };
  return command
    .addOption(real('--learning-rate <x>', 'peak, of AdamW', { above: 0 }).default(learningRate))
    .addOption(
      choice('--schedule <kind>', 'how the learning rate decays after warm-up and flat steps', [
        'cosine',
        'linear',
        'constant',
      ]).default(schedule.kind),
    )
    .addOption(
      real(
        '--warmup-steps <n>',
        'steps in which the learning rate rises; below 1: their share of all steps',
        {
          min: 0,
        },
      ).default(schedule.warmupSteps),
    )
    .addOption(
      integer('--flat-steps <n>', 'steps at the peak before it decays', { min: 0 }).default(
        schedule.flatSteps,
      ),
    )
    .addOption(
      real('--floor <x>', 'share of the peak that the decay ends at', { min: 0, max: 1 }).default(
        schedule.floor,
      ),
    )
    .addOption(real('--adam-beta1 <x>', 'AdamW, decay of the first moment', decay).default(adam.beta1))
    .addOption(real('--adam-beta2 <x>', 'AdamW, decay of the second moment', decay).default(adam.beta2))
    .addOption(
      real('--adam-epsilon <x>', 'AdamW, added to the root of the second moment', { above: 0 }).default(
        adam.epsilon,
      ),
    )
    .addOption(
      real('--weight-decay <x>', 'AdamW, decoupled; not on normalisation weights', { min: 0 }).default(
        adam.weightDecay,
      ),
    )
    .addOption(
      real('--max-grad-norm <x>', 'global norm to which gradients are clipped', { above: 0 }).default(
        adam.maxGradNorm,
      ),
    )
    .option('--no-max-grad-norm', 'no clipping of gradients');
}

/** `steps`: of the whole run, which a share of warm-up steps is a share of. */
export function optimizerOf(flags: OptimizerFlags, steps: number): OptimizerOptions {
  const { learningRate, schedule: kind, flatSteps, floor } = flags;
  const warmupSteps = warmupStepsOf(flags.warmupSteps, steps);
  const { adamBeta1: beta1, adamBeta2: beta2, adamEpsilon: epsilon, weightDecay, maxGradNorm } = flags;
  return {
    learningRate,
    schedule: { kind, warmupSteps, flatSteps, floor },
    adam: { beta1, beta2, epsilon, weightDecay, ...(maxGradNorm === false ? {} : { maxGradNorm }) },
  };
}

/** TRL's rule: a number below 1 is a share, rounded up. */
function warmupStepsOf(given: number, steps: number): number {
  if (given < 1) return Math.ceil(given * steps);
  if (Number.isInteger(given)) return given;
  throw usageError(`--warmup-steps: expected a whole number, or a share below 1, got ${given}`);
}

export interface PlayerFlags {
  told?: Told;
  dropAttempt?: boolean;
  temperature: number;
  topK?: number;
  topP?: number;
  minP?: number;
  maxAttemptTokens?: number;
  maxReflectionTokens?: number;
}

const TURN_LIMIT = '(default: a quarter of the context, at most 512)';

/** How attempts are sampled. */
export function addAttemptOptions(command: Command): Command {
  // Greedy siblings are one reflection: there is nothing to learn from at temperature 0.
  addFilterOptions(
    command.addOption(
      real('--temperature <t>', 'divides the logits before sampling', { above: 0 }).default(1),
    ),
  );
  return command.addOption(
    integer('--max-attempt-tokens <n>', `longest attempt and retry, in tokens ${TURN_LIMIT}`, { min: 1 }),
  );
}

/** How attempts, reflections and retries are sampled. */
export function addPlayerOptions(command: Command): Command {
  return addAttemptOptions(command)
    .addOption(
      integer('--max-reflection-tokens <n>', `longest reflection, in tokens ${TURN_LIMIT}`, { min: 1 }),
    )
    .addOption(
      choice(
        '--told <what>',
        "what the model is told of its failure: only that it failed, or the verdict's reason too (default: failed)",
        TOLD,
      ),
    )
    .option('--drop-attempt', 'leave the failed attempt out of the conversation of the retry');
}

/** What narrows the distribution that is sampled from. */
export function addFilterOptions(command: Command): Command {
  return command
    .addOption(integer('--top-k <n>', 'keep the n likeliest tokens (default: all)', { min: 1 }))
    .addOption(
      real('--top-p <p>', 'keep the likeliest tokens that hold p of the probability (default: all)', {
        above: 0,
        max: 1,
      }),
    )
    .addOption(
      real('--min-p <p>', 'drop tokens less likely than p times the likeliest (default: none)', {
        min: 0,
        max: 1,
      }),
    );
}

/** Examples under the options. */
export function addExamples(command: Command, text: string): Command {
  return command.addHelpText('after', `\nExamples:\n${text.trimEnd()}`);
}
