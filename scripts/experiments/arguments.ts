/**
 * The command line of the experiments: which arms, seeds and start models.
 *
 * Everything that a person can mistype is refused here, before anything runs. What it all means is in `main.ts`.
 */
import { parseArgs } from 'node:util';
import { EXHIBITS } from '../../src/exhibits.ts';
import { armsOf, type Arm } from './definitions.ts';

export interface Arguments {
  arms: Arm[];
  seeds: number[];
  /** Of each kind the folders, by the number of their warm-up. */
  starts: Record<NonNullable<Arm['start']>, ReadonlyMap<number, string>>;
  /** undefined: the folder of the page. */
  out: string | undefined;
  /** undefined: as the engine chooses. */
  threads: number | undefined;
}

/** Throws an Error, whose message is for a person, for anything but what `main.ts` describes. */
export function parseArguments(args: readonly string[]): Arguments {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      out: { type: 'string' },
      seed: { type: 'string', multiple: true, default: ['1', '2', '3'] },
      arm: { type: 'string', multiple: true },
      rare: { type: 'string', multiple: true, default: [] },
      common: { type: 'string', multiple: true, default: [] },
      calls: { type: 'string', multiple: true, default: [] },
      both: { type: 'string', multiple: true, default: [] },
      large: { type: 'string', multiple: true, default: [] },
      threads: { type: 'string' },
    },
  });
  const [name = ''] = positionals;
  const startsOf = (kind: keyof Arguments['starts'], shipped?: string): Map<number, string> =>
    new Map([
      ...(shipped === undefined ? [] : [[1, shipped] as const]),
      ...values[kind].map((text) => parseStart(`--${kind}`, text)),
    ]);
  return {
    arms: chosen(armsOf(name), values.arm),
    seeds: values.seed.map((text) => parseWhole('--seed', text, 0)),
    starts: {
      rare: startsOf('rare', EXHIBITS.countdown.model),
      common: startsOf('common'),
      calls: startsOf('calls', EXHIBITS['function-calling'].model),
      both: startsOf('both'),
      large: startsOf('large'),
    },
    out: values.out,
    threads: values.threads === undefined ? undefined : parseWhole('--threads', values.threads, 1),
  };
}

function chosen(arms: readonly Arm[], names: readonly string[] | undefined): Arm[] {
  const known = arms.map((arm) => arm.name);
  const unknown = names?.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new Error(`--arm: expected one of ${known.join(', ')}, got ${JSON.stringify(unknown)}`);
  return arms.filter((arm) => names?.includes(arm.name) ?? true);
}

function parseWhole(option: string, text: string, min: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (Number.isSafeInteger(value) && value >= min) return value;
  throw new Error(`${option}: expected a whole number of at least ${min}, got ${JSON.stringify(text)}`);
}

function parseStart(option: string, text: string): [number, string] {
  const [, warmUp, path] = /^(\d+)=(.+)$/.exec(text) ?? [];
  if (warmUp === undefined || path === undefined)
    throw new Error(`${option}: expected NUMBER=FOLDER, got ${JSON.stringify(text)}`);
  return [Number(warmUp), path];
}
