import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import {
  completionOf,
  startScriptedServer,
  type Received,
  type Scripted,
  type ScriptedServer,
} from '../engine/openai/testing.ts';
import { hash32 } from '../lib/rng.ts';
import { CONTROL_NAMES } from '../method/controls.ts';
import type { Task } from '../method/task.ts';
import { countdown } from '../tasks/countdown.ts';
import { demandOf } from './eval-server.ts';
import { runInPlace, type Outcome } from './testing.ts';

const place = mkdtempSync(join(tmpdir(), 'r3-eval-server-'));
afterAll(() => rmSync(place, { recursive: true }));
const problems = join(place, 'problems.jsonl');
writeFileSync(
  problems,
  Array.from({ length: 8 }, (_, i) => `${JSON.stringify({ nums: [3, 2, 1 + i], target: 7 })}\n`).join(''),
);
const KEY = 'sk-secret-123';
const LIMITS = ['--max-attempt-tokens', '20', '--max-reflection-tokens', '12'];
const TASK = ['--task', 'countdown', '--prompts', 'short', '--problems', problems, ...LIMITS];

const servers: ScriptedServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function serve(script: (request: Received, index: number) => Scripted): Promise<ScriptedServer> {
  const server = await startScriptedServer(script);
  servers.push(server);
  return server;
}

/** Passes by chance, a function of messages and seed. */
function answer({ path, body }: Received): Scripted {
  if (path.endsWith('/models')) return { body: { data: [{ id: 'big', max_model_len: 4096 }] } };
  const text = JSON.stringify(body['messages']);
  const n = Number(body['n'] ?? 1);
  const draws = Array.from({ length: n }, (_, i) => hash32(Number(body['seed']), text.length, i) % 3);
  const isReflection = text.endsWith('"why"}]');
  return {
    body: completionOf(
      draws.map((draw) => (isReflection ? `hint ${draw}` : draw === 0 ? '3 * 2 + 1' : '3 + 2 + 1')),
      { tokens: 6 * n },
    ),
  };
}

const run = (args: string[], env: Record<string, string> = {}): Promise<Outcome> =>
  runInPlace(['eval', ...args], { CI: '1', OPENAI_API_KEY: KEY, ...env });
const served = ({ url }: ScriptedServer, ...more: string[]): string[] => {
  const server = ['--engine', 'openai', '--url', url, '--model', 'big'];
  return [...server, ...TASK, ...more];
};
const textsOf = (directory: string): string[] =>
  readdirSync(directory).map((name) => readFileSync(join(directory, name), 'utf8'));

describe('an evaluation of a model behind a server', async () => {
  const out = join(place, 'whole');
  let server: ScriptedServer;
  let first: Outcome;

  test('has the rates of all columns but the forced beginning, from the counts of the server', async () => {
    server = await serve(answer);
    first = await run(served(server, '--out', out, '--json'));
    expect(first.code, first.stderr).toBe(0);
    const summary = JSON.parse(first.stdout);
    expect(summary).toMatchObject({
      n: 8,
      model: {
        directory: 'big',
        hash: null,
        sampled: [{ firstTry: { n: 8 }, independentAtEqualTokens: { n: 8 }, meanTokens: { attempt: 6 } }],
        greedy: { secondTry: { n: 8 } },
      },
      start: null,
      change: null,
    });
    expect(summary.controls).toEqual(CONTROL_NAMES.filter((name) => name !== 'afterForcedBeginning'));
    // Repeats are counted on ids, which a server does not give.
    expect(summary.model.sampled[0].reflections.repetition).toBeNull();
    expect(first.stderr).toMatch(/\d+ requests, 0 sent again; \d+ prompt tokens, \d+ sampled/);
  });

  test('keeps engine, address and name, and no key', () => {
    const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
    expect(config).toMatchObject({ engine: 'openai', model: { directory: 'big', hash: null }, dtype: null });
    expect(config.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/v1$/);
    expect([...textsOf(out), first.stdout, first.stderr].join()).not.toContain(KEY);
  });

  test('that lost its server goes on to the same rows', async () => {
    let isUp = true;
    let left = 40;
    server = await serve((request, i) => {
      if (left-- <= 0) isUp = false;
      return isUp ? answer(request) : { status: 400, body: { error: { message: `down at ${i}` } } };
    });
    const cut = join(place, 'cut');
    const failed = await run(served(server, '--out', cut));
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain(`go on with: r3 eval --resume ${cut}`);
    isUp = true;
    left = Number.POSITIVE_INFINITY;
    const resumed = await run(['--resume', cut, '--concurrency', '2']);
    expect(resumed.code, resumed.stderr).toBe(0);
    const rowsOf = (directory: string): string => readFileSync(join(directory, 'rows.jsonl'), 'utf8');
    expect(rowsOf(cut)).toBe(rowsOf(out));
    const compared = await runInPlace(['compare', out, cut, '--json']);
    expect(JSON.parse(compared.stdout)).toMatchObject({ n: 8, sampled: [{ secondTry: { diff: 0 } }] });
  });
});

test('what is refused before the first row leaves no folder', async () => {
  const server = await serve(() => ({ status: 401, body: { error: { message: `no ${KEY}` } } }));
  const out = join(place, 'refused');
  const { code, stderr } = await run(served(server, '--out', out));
  expect({ code, made: existsSync(out) }).toEqual({ code: 1, made: false });
  expect(stderr).toContain('got status 401: the key that was sent is refused');
  expect(stderr).not.toContain(KEY);
});

test('the key comes from the variable that is named', async () => {
  const server = await serve((request) =>
    request.headers.authorization === 'Bearer other' ? answer(request) : { status: 401, body: {} },
  );
  const args = served(server, '--controls', 'none', '--limit', '2', '--api-key-env', 'MY_KEY');
  const { code, stderr } = await run([...args, '--out', join(place, 'key')], { MY_KEY: 'other' });
  expect(code, stderr).toBe(0);
  expect((await run(args)).stderr).toContain('--api-key-env: expected a variable that is set, got MY_KEY');
});

test('a dry run asks for nothing and says what a server that fails at everything will be asked for', async () => {
  const server = await serve((request) =>
    request.path.endsWith('/models')
      ? { status: 404, body: {} }
      : { body: completionOf(['x'], { tokens: Number(request.body['max_tokens']) }) },
  );
  const dry = await run(served(server, '--dry-run', '--json', '--seeds', '1,2'));
  expect(dry.code, dry.stderr).toBe(0);
  expect(server.received).toHaveLength(0);
  const demand = JSON.parse(dry.stdout);
  const real = await run(served(server, '--seeds', '1,2', '--out', join(place, 'failing')));
  expect(real.code, real.stderr).toBe(0);
  // Beside them: one for the models, and one that tries the server.
  const asked = server.received.slice(2).map(({ body }) => Number(body['max_tokens']));
  expect(asked).toHaveLength(demand.singleRequests);
  expect(asked.reduce((sum, tokens) => sum + tokens, 0)).toBe(demand.sampledTokens);
});

test('the demand grows with controls', async () => {
  const rows = [{ id: 'p0', nums: [3, 2, 1], target: 7 }];
  const sampling = { temperature: 1, maxAttemptTokens: 10, maxReflectionTokens: 10 };
  const settings = { sampling, seeds: [1], fixedText: 'x' };
  const task = countdown as unknown as Task;
  const of = (
    controls: (typeof CONTROL_NAMES)[number][],
  ): Promise<{ requests: number; sampledTokens: number }> =>
    demandOf(task, countdown.prompts('short'), rows, { ...settings, controls });
  expect(await of([])).toMatchObject({ requests: 6, sampledTokens: 60 });
  // Greedy attempts are one attempt.
  expect(await of(['twoIndependent'])).toMatchObject({ requests: 7, sampledTokens: 70 });
  expect(await of(['afterEmptyReflection'])).toMatchObject({ requests: 8, sampledTokens: 80 });
});

test.each([
  [['--engine', 'openai', '--model', 'x', ...TASK], '--url: expected the address of the server'],
  [['--engine', 'openai', '--url', 'http://u:secret@h/v1', '--model', 'x', ...TASK], '--url: expected'],
  [['--engine', 'openai', '--against', 'x', ...TASK], '--against: expected none with --engine openai'],
  [['--engine', 'openai', '--dtype', 'bf16', ...TASK], '--dtype: expected none with --engine openai'],
  [['--engine', 'openai', '--url', 'http://h/v1', ...TASK], '--model: expected it'],
  [
    ['--url', 'http://h/v1', '--model', 'x', ...TASK],
    '--url: expected an --engine that is a service beside it, got local',
  ],
  [['--dry-run', '--model', 'x', ...TASK], '--dry-run: expected --engine openai beside it'],
  [['--engine', 'vllm', ...TASK], '--engine: expected local, openai or tinker, got "vllm"'],
  [
    ['--engine', 'openai', '--url', 'http://h/v1', '--model', 'x', '--controls', 'forced-beginning', ...TASK],
    'that one needs --against',
  ],
])('%j is a mistake in the command line', async (args, message) => {
  const { code, stderr } = await run(args);
  expect(stderr).toContain(message);
  expect(stderr).not.toContain('secret');
  expect(code).toBe(2);
});

test.each(['train', 'mine', 'forgetting'])(
  'r3 %s refuses a server that takes messages, with the reason',
  async (command) => {
    const { code, stderr } = await runInPlace([command, '--engine', 'openai']);
    expect(stderr).toContain('without token ids, log-probabilities of them or gradients');
    expect(code).toBe(2);
  },
);
