/**
 * The command as a process in a temporary folder, and a small model to run it on.
 *
 * `npm test` builds dist/ first. The model is made here, by `r3 sft` from a config alone: it solves sums of two
 * numbers about half of the time, so that there are failures to reflect on and retries that pass.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeRng } from '../../src/lib/rng.ts';

const repository = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const MAIN = repository('dist/cli/main.js');

export interface Outcome {
  /** null when a signal ended it. */
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Workplace {
  folder: string;
  /** Runs `r3 ARGS` in the folder, to its end or until `during` ends it. */
  r3: (args: readonly string[], options?: RunOptions) => Promise<Outcome>;
  /** Makes a file of one row per line, as JSON or as it is where a row is text; returns its name. */
  write: (name: string, rows: readonly unknown[]) => string;
  remove: () => void;
}

export interface RunOptions {
  env?: Record<string, string>;
  /** Called with the process once it runs. */
  during?: (child: ChildProcess) => void;
}

/** Ctrl-C, as soon as `when` says so. */
export function interruptWhen(child: ChildProcess, when: () => boolean): void {
  const timer = setInterval(() => {
    if (!when()) return;
    clearInterval(timer);
    child.kill('SIGINT');
  }, 5);
  child.on('exit', () => clearInterval(timer));
}

/** Whether a run has written the metrics of a step. */
export function hasStepped(run: string): boolean {
  const metrics = join(run, 'metrics.jsonl');
  return existsSync(metrics) && statSync(metrics).size > 0;
}

export function makeWorkplace(): Workplace {
  if (!existsSync(MAIN)) throw new Error(`${MAIN}: expected the built command, got none; run npm test`);
  const folder = mkdtempSync(join(tmpdir(), 'r3-e2e-'));
  return {
    folder,
    r3: (args, { env = {}, during } = {}) =>
      new Promise((resolve, reject) => {
        const child = spawn(process.execPath, [MAIN, ...args], {
          cwd: folder,
          env: { ...process.env, ...env },
        });
        const written = { stdout: '', stderr: '' };
        child.stdout.on('data', (data: Buffer) => (written.stdout += data.toString()));
        child.stderr.on('data', (data: Buffer) => (written.stderr += data.toString()));
        child.on('error', reject);
        child.on('close', (code) => resolve({ code, ...written }));
        during?.(child);
      }),
    write: (name, rows) => {
      writeFileSync(
        join(folder, name),
        rows.map((row) => `${typeof row === 'string' ? row : JSON.stringify(row)}\n`).join(''),
      );
      return name;
    },
    remove: () => rmSync(folder, { recursive: true }),
  };
}

export const fixture = (name: string): string => repository(`test/fixtures/${name}`);

const CONFIG = {
  model_type: 'llama',
  vocab_size: 240,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  head_dim: 16,
  max_position_embeddings: 96,
  rms_norm_eps: 1e-5,
  bos_token_id: 1,
  eos_token_id: 2,
};

const PROBLEMS = [1, 2, 3, 4, 5].flatMap((a) =>
  [2, 3, 4, 5, 6].flatMap((b) => (b > a ? [{ nums: [a, b], target: a + b }] : [])),
);

function turn(role: string, content: string): object {
  return { role, content };
}

/** Makes `model` and `problems.jsonl` in the folder. */
export async function makeModel({ folder, r3, write }: Workplace): Promise<void> {
  mkdirSync(join(folder, 'config'));
  writeFileSync(join(folder, 'config/config.json'), JSON.stringify(CONFIG));
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json']) {
    copyFileSync(repository(`models/start/${name}`), join(folder, 'config', name));
  }
  const rng = makeRng(1);
  const rows = Array.from({ length: 1400 }, () => {
    const { nums, target } = rng.pick(PROBLEMS);
    const answer = (): string => nums.join(rng.next() < 0.5 ? ' + ' : ' - ');
    return {
      messages: [
        turn('user', `${nums.join(' ')} to ${target}`),
        turn('assistant', answer()),
        turn('user', 'why'),
        turn('assistant', rng.pick(['be careful', 'check each number', `keep ${nums[0]}`])),
        turn('user', 'again'),
        turn('assistant', answer()),
      ],
    };
  });
  write('conversations.jsonl', rows);
  write('problems.jsonl', PROBLEMS);
  const training = ['--batch-size', '20', '--learning-rate', '1e-2', '--schedule', 'linear'];
  const data = ['--data', 'conversations.jsonl', '--out', 'model'];
  const made = await r3(['sft', '--model', 'config', '--init-seed', '1', ...data, ...training]);
  if (made.code !== 0) throw new Error(made.stderr);
}
