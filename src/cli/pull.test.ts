import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { makeRepository, showsSecret, startHub, TOKEN } from '../hub/testing.ts';
import { findModel } from './session.ts';
import { runInPlace, type Outcome } from './testing.ts';

const hub = await startHub();
const root = mkdtempSync(join(tmpdir(), 'r3-pull-'));
afterAll(async () => {
  await hub.close();
  rmSync(root, { recursive: true });
});

const REPOSITORY = makeRepository({ 'config.json': '{}', 'model.safetensors': 'weights' });
let runs = 0;
let env: Record<string, string>;
let cache: string;
beforeEach(() => {
  hub.repositories.clear();
  hub.repositories.set('org/model', REPOSITORY);
  hub.seen = [];
  const home = join(root, String(runs++));
  cache = join(home, 'hub', 'models--org--model');
  env = { HF_ENDPOINT: hub.endpoint, HF_HOME: home, HF_TOKEN: TOKEN };
});
const snapshot = (): string => join(cache, 'snapshots', REPOSITORY.commit);

async function pull(...args: string[]): Promise<Outcome> {
  const outcome = await runInPlace(['pull', ...args], env);
  expect(showsSecret(outcome.stdout + outcome.stderr)).toBe(false);
  return outcome;
}

describe('r3 pull', () => {
  test('ends with the folder on stdout, and what it did and what to try next on stderr', async () => {
    const { code, stdout, stderr } = await pull('org/model');
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${snapshot()}\n` });
    expect(stderr).toMatch(/^org\/model {2}9 B\/9 B {2}0:0\d {2}at .*\/s\n/);
    expect(stderr).toContain(`commit ${REPOSITORY.commit}, 2 files, 9 B, 9 B downloaded\n`);
    expect(stderr).toContain('\nnext: r3 generate org/model --prompt');
    expect((await pull('org/model')).stderr).toMatch(/^org\/model, main: .*, nothing new\nnext: /);
  });

  test('--json is one line with all of it', async () => {
    const { stdout } = await pull('org/model@v1', '--json');
    expect(JSON.parse(stdout)).toEqual({
      repository: 'org/model',
      revision: 'v1',
      commit: REPOSITORY.commit,
      directory: snapshot(),
      files: ['config.json', 'model.safetensors'],
      bytes: 9,
      downloadedBytes: 9,
    });
    expect((await pull('org/model', '--revision', 'v1', '--json')).stdout).toBe(
      stdout.replace('"downloadedBytes":9', '"downloadedBytes":0'),
    );
  });

  test('of a folder checks it and leaves it where it is', async () => {
    const folder = join(root, 'local');
    mkdirSync(folder);
    writeFileSync(join(folder, 'config.json'), '{}');
    expect(await pull(folder)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /expected weights in model\.safetensors or in shards .*, got none\n$/,
      ) as unknown,
    });
    writeFileSync(join(folder, 'model.safetensors'), 'w');
    expect(await pull(folder)).toMatchObject({ code: 0, stdout: `${folder}\n` });
    expect(JSON.parse((await pull(folder, '--json')).stdout)).toEqual({
      repository: null,
      revision: null,
      commit: null,
      directory: folder,
      files: ['config.json', 'model.safetensors'],
      bytes: 3,
      downloadedBytes: 0,
    });
    expect(hub.seen).toEqual([]);
  });

  test.each([
    [
      ['../x'],
      'model: expected a folder that exists or a name such as Qwen/Qwen2.5-0.5B-Instruct, got "../x"',
    ],
    [['org/model', '--revision', '../x'], 'revision: expected a branch, a tag or a commit, got "../x"'],
    [['org/model@v1', '--revision', 'main'], '--revision: expected a name without @, got "org/model@v1"'],
    [
      ['models/start', '--revision', 'main'],
      '--revision: expected a name on the hub, got the folder models/start',
    ],
  ])('%j is a usage error', async (args, message) => {
    expect(await pull(...args)).toEqual({ code: 2, stdout: '', stderr: `r3: ${message}\n` });
  });

  test('of a repository that does not exist is one line, and exit code 1', async () => {
    const { code, stdout, stderr } = await pull('org/other');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^r3: org\/other: expected a repository that exists, got none at [^\n]*\n$/);
  });
});

describe('a model that a command names', () => {
  test('is a folder first, then a snapshot in the cache, by branch, tag or commit', async () => {
    await pull('org/model');
    expect(findModel('models/start', env)).toBe('models/start');
    expect(findModel('org/model', env)).toBe(snapshot());
    expect(findModel(`org/model@${REPOSITORY.commit}`, env)).toBe(snapshot());
    await pull('org/model@v1');
    expect(findModel('org/model@v1', env)).toBe(snapshot());
  });

  test('and is not there is an error that says how to get it', async () => {
    for (const name of ['org/model', 'org/model@v2']) {
      expect(() => findModel(name, env)).toThrow(
        `${name}: expected a model folder or a model that is downloaded, got neither; check the path, or download it: r3 pull ${name}`,
      );
    }
    expect(() => findModel('nowhere', env)).toThrow(
      'nowhere: expected a model folder in the Hugging Face layout',
    );
    const generate = await runInPlace(['generate', 'org/model', '--prompt', 'a'], env);
    expect(generate).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('r3 pull org/model') as unknown,
    });
  });

  test('and is there in part is an error that names what it lacks', async () => {
    await pull('org/model');
    rmSync(join(snapshot(), 'model.safetensors'));
    expect(() => findModel('org/model', env)).toThrow(
      'org/model: expected a whole model in the cache, got one without model.safetensors; download the rest: r3 pull org/model',
    );
  });
});
