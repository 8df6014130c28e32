import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
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

/** A folder of a test's own, that it may damage. */
function copyOf(model: string): string {
  const folder = join(root, `local-${runs++}`);
  cpSync(model, folder, { recursive: true });
  return folder;
}

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
    const folder = copyOf('test/fixtures/families/stored-shards');
    expect(await pull(folder)).toMatchObject({ code: 0, stdout: `${folder}\n` });
    const result = JSON.parse((await pull(folder, '--json')).stdout) as { files: string[]; bytes: number };
    expect(result).toMatchObject({
      repository: null,
      revision: null,
      commit: null,
      directory: folder,
      downloadedBytes: 0,
    });
    expect(result.files).toContain('model.safetensors.index.json');
    expect(result.bytes).toBe(result.files.reduce((sum, file) => sum + statSync(join(folder, file)).size, 0));
    expect(hub.seen).toEqual([]);
  });

  test.each<[string, (folder: string) => void, string]>([
    ['weights that are cut', (folder) => truncateSync(join(folder, 'model.safetensors'), 9000), 'expected'],
    [
      'no weights',
      (folder) => rmSync(join(folder, 'model.safetensors')),
      'model.safetensors: expected the weights, got no such file',
    ],
    [
      'the config of another model',
      (folder) => cpSync('models/start/config.json', join(folder, 'config.json')),
      'Are all files of the same model?',
    ],
    [
      'no config',
      (folder) => rmSync(join(folder, 'config.json')),
      'expected a model folder in the Hugging Face layout, got no config.json',
    ],
  ])('of a folder with %s is one error', async (_, damage, message) => {
    const folder = copyOf('test/fixtures/families/qwen2');
    expect((await pull(folder)).code).toBe(0);
    damage(folder);
    const { code, stdout, stderr } = await pull(folder, '--json');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(message);
    expect(stderr).toContain(folder);
  });

  test('of an adapter that r3 wrote checks the adapter and its base model', async () => {
    const [base, folder] = [copyOf('test/fixtures/families/qwen2'), copyOf('test/fixtures/families/qwen2')];
    cpSync(join(base, 'lora'), folder, { recursive: true });
    rmSync(join(folder, 'model.safetensors'));
    const path = join(folder, 'adapter_config.json');
    const config = JSON.parse(readFileSync(path, 'utf8')) as object;
    writeFileSync(path, JSON.stringify({ ...config, base_model_name_or_path: base }));
    const { code, stdout, stderr } = await pull(folder, '--json');
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect((JSON.parse(stdout) as { files: string[] }).files).toContain('adapter_model.safetensors');
    truncateSync(join(base, 'model.safetensors'), 9000);
    expect((await pull(folder)).stderr).toContain(join(base, 'model.safetensors'));
    truncateSync(join(folder, 'adapter_model.safetensors'), 9000);
    expect((await pull(folder)).stderr).toContain(join(folder, 'adapter_model.safetensors'));
  });

  test('by name of an adapter that r3 wrote brings a folder that commands find', async () => {
    const adapter = {
      'adapter_config.json': '{}',
      'adapter_model.safetensors': 'weights',
      'config.json': '{}',
    };
    const repository = makeRepository(adapter);
    hub.repositories.set('org/adapter', repository);
    const { code, stdout } = await pull('org/adapter');
    expect(code).toBe(0);
    expect(findModel('org/adapter', env)).toBe(stdout.trim());
  });

  test.each([
    [['package.json'], 'model: expected a folder or a name on the hub, got the file package.json'],
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
