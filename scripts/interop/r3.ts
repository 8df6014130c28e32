/**
 * The command `r3` as a process, and a run of it that is killed on its way.
 */
import { execSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const R3 = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const LOOK_MS = 100;
/** Resumes of one run: one after the kill, and some while the service starts. */
const RESUMES = 10;
const PAUSE_MS = 10_000;

function start(args: readonly string[]): {
  child: ChildProcess;
  ended: Promise<number | null>;
  out: () => string;
} {
  process.stderr.write(`interop: r3 ${args.join(' ')}\n`);
  const child = spawn(process.execPath, [R3, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (part: string) => (text += part));
  const ended = new Promise<number | null>((done) => child.on('exit', (code) => done(code)));
  return { child, ended, out: () => text };
}

/** What the command prints on standard output. Throws where it fails. */
export async function r3(args: readonly string[]): Promise<string> {
  const { ended, out } = start(args);
  const code = await ended;
  if (code === 0) return out();
  throw new Error(`interop: expected r3 ${args[0]} to succeed, got exit code ${code}; see above`);
}

/** Runs and resumes until the run has all its steps. One line for each thing that happened to it. */
export async function trainThroughFaults(
  args: readonly string[],
  {
    run,
    resume,
    steps,
    restart,
  }: { run: string; resume: readonly string[]; steps: number; restart: string | undefined },
): Promise<string[]> {
  const happened: string[] = [];
  const first = start(args);
  await stepsDone(run, Math.floor(steps / 3), first.ended);
  first.child.kill('SIGKILL');
  if ((await first.ended) !== null)
    throw new Error('interop: expected a run to kill, got one that ended; see above');
  happened.push(`client killed after ${countSteps(run)} steps`);

  let toRestart = restart;
  for (let resumes = 1; resumes <= RESUMES; resumes++) {
    const went = start(resume);
    if (toRestart !== undefined) {
      await stepsDone(run, Math.floor((2 * steps) / 3), went.ended);
      if (went.child.exitCode === null) {
        happened.push(`service restarted after ${countSteps(run)} steps`);
        execSync(toRestart, { stdio: ['ignore', 2, 2] });
        toRestart = undefined;
      }
    }
    const code = await went.ended;
    if (code === 0) return [...happened, `finished after ${resumes} resumes`];
    happened.push(`client ended with code ${code} after ${countSteps(run)} steps`);
    await sleep(PAUSE_MS);
  }
  throw new Error(`interop: expected a run that ends within ${RESUMES} resumes, got ${happened.join('; ')}`);
}

async function stepsDone(run: string, wanted: number, ended: Promise<unknown>): Promise<void> {
  let isOver = false;
  void ended.then(() => (isOver = true));
  while (!isOver && countSteps(run) < wanted) await sleep(LOOK_MS);
}

function countSteps(run: string): number {
  const path = join(run, 'metrics.jsonl');
  return existsSync(path) ? readFileSync(path, 'utf8').split('\n').length - 1 : 0;
}
