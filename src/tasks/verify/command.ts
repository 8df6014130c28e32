/**
 * A verifier that is a command: the answer on its standard input, the verdict by its exit code.
 *
 * 0 passes, 1 fails: then the first line of its standard output is the class of error, the next ones the reason.
 * Everything else (another code, a signal, no such command, out of time, too much output) means that the answer was
 * not judged, and throws; so does exit code 1 with a standard error and no standard output, as an uncaught exception of
 * Python or Node ends. The row of the problem is JSON in the environment variable R3_PROBLEM. The command runs in a
 * process group of its own, which is killed as a whole: on time-out, on a flood, when the command has ended, and when
 * this process exits or is interrupted. No shell is between: arguments are what they are. It is no sandbox: it runs with the rights of r3.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { makeLimit } from '../../lib/concurrent.ts';
import { oneLine } from '../../lib/printable.ts';
import type { Verdict } from '../../method/episode.ts';

export interface CommandOptions {
  /** Program and arguments. */
  command: readonly string[];
  timeoutMs: number;
  /** Of standard output and standard error together. */
  maxOutputBytes: number;
  /** Commands that run at a time. */
  concurrency: number;
  /** The folder that it runs in. */
  cwd: string;
  env: Readonly<Record<string, string | undefined>>;
}

/** Linux takes at most 128 KiB for one variable, its name included. */
const MAX_PROBLEM_BYTES = 120_000;
const CLASS_LENGTH = 60;
const WHY_LENGTH = 500;

export type CommandVerifier = (
  problem: Readonly<Record<string, unknown>>,
  answer: string,
) => Promise<Verdict>;

export function makeCommandVerifier(options: CommandOptions): CommandVerifier {
  const limit = makeLimit(options.concurrency);
  return (problem, answer) => limit(() => judge(options, JSON.stringify(problem), answer));
}

/** Throws an Error for a row that does not fit into an environment variable. */
export function checkCommandRow(problem: Readonly<Record<string, unknown>>): void {
  const bytes = Buffer.byteLength(JSON.stringify(problem));
  if (bytes <= MAX_PROBLEM_BYTES) return;
  throw new Error(`row: expected at most ${MAX_PROBLEM_BYTES} bytes of JSON for a command, got ${bytes}`);
}

interface Ended {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

async function judge(options: CommandOptions, problem: string, answer: string): Promise<Verdict> {
  const { code, signal, stdout, stderr } = await run(options, problem, answer);
  if (code === 0) return { ok: true };
  const isCrash = stdout.trim() === '' && stderr.trim() !== '';
  if (code === 1 && !isCrash) {
    const [first = '', ...rest] = stdout.trim().split('\n');
    return {
      ok: false,
      class: oneLine(first.trim()).slice(0, CLASS_LENGTH) || 'wrong answer',
      why: rest.join('\n').trim().slice(0, WHY_LENGTH) || 'the command gives no reason',
    };
  }
  const exit = code === 1 ? 'exit code 1 with an error and no verdict' : `exit code ${code}`;
  const got = signal === null ? exit : `the signal ${signal}`;
  const said = oneLine(lastLine(stderr)).slice(0, WHY_LENGTH);
  throw new Error(
    `command ${options.command[0]}: expected exit code 0 (passes) or 1 (fails), got ${got}${said === '' ? '' : `: ${said}`}`,
  );
}

/** What follows the message of an uncaught exception in Node: its stack and the version. */
const AFTER_MESSAGE = /^\s+at |^Node\.js v/;

/** The last line that says something: a Python traceback ends with its message, Node's goes on after it. */
function lastLine(stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '' && !AFTER_MESSAGE.test(line));
  return lines.at(-1)?.trim() ?? '';
}

function run(options: CommandOptions, problem: string, answer: string): Promise<Ended> {
  const { command, timeoutMs, maxOutputBytes, cwd, env } = options;
  const [program = '', ...args] = command;
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown): void => {
      finish();
      reject(new Error(`command ${program}: ${why}`, { cause }));
    };
    const finish = (): void => {
      clearTimeout(timer);
      forget(child);
      killGroup(child);
      child.stdout?.destroy();
      child.stderr?.destroy();
    };
    let child: ChildProcess;
    try {
      child = spawn(program, args, {
        cwd,
        env: { ...env, R3_PROBLEM: problem },
        stdio: 'pipe',
        detached: process.platform !== 'win32',
      });
    } catch (error) {
      reject(new Error(`command ${program}: expected to be started, got ${String(error)}`, { cause: error }));
      return;
    }
    remember(child);
    const timer = setTimeout(() => fail(`expected an end within ${timeoutMs} ms, got none`), timeoutMs);
    const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    let received = 0;
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.on('data', (chunk: Buffer) => {
        received += chunk.length;
        if (received > maxOutputBytes) fail(`expected at most ${maxOutputBytes} bytes of output, got more`);
        else output[name].push(chunk);
      });
    }
    // A command need not read its input; what it does not read is its own affair.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(answer);
    child.on('error', (error) => fail(`expected to be started, got ${error.message}`, error));
    // What the command left running would keep the pipes open.
    child.on('exit', () => killGroup(child));
    child.on('close', (code, signal) => {
      finish();
      const text = (chunks: Buffer[]): string => Buffer.concat(chunks).toString('utf8');
      resolve({ code, signal, stdout: text(output.stdout), stderr: text(output.stderr) });
    });
  });
}

function killGroup(child: ChildProcess): void {
  const { pid } = child;
  if (pid === undefined) return;
  try {
    if (process.platform === 'win32') child.kill('SIGKILL');
    else process.kill(-pid, 'SIGKILL');
  } catch {
    // The group is gone already.
  }
}

/** Commands under way: none may outlive this process. */
const running = new Set<ChildProcess>();

function killAll(): void {
  for (const child of running) killGroup(child);
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Where nobody else listens the signal ends this process, as it would without commands: then without an `exit`. */
function killAllAndEnd(signal: NodeJS.Signals): void {
  if (process.listenerCount(signal) > 1) return;
  killAll();
  process.off(signal, killAllAndEnd);
  process.kill(process.pid, signal);
}

function remember(child: ChildProcess): void {
  if (running.size === 0) {
    process.on('exit', killAll);
    for (const signal of SIGNALS) process.on(signal, killAllAndEnd);
  }
  running.add(child);
}

function forget(child: ChildProcess): void {
  if (!running.delete(child) || running.size > 0) return;
  process.off('exit', killAll);
  for (const signal of SIGNALS) process.off(signal, killAllAndEnd);
}
