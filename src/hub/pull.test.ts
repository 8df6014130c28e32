import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { hash32 } from '../lib/rng.ts';
import { pullModel, type Pulled, type PullOptions } from './pull.ts';
import { readHubSettings } from './settings.ts';
import { TOKEN, gitHash, makeRepository, sha256, showsSecret, startHub, type Trouble } from './testing.ts';

const NAME = 'org/model';
const WEIGHTS = Buffer.from(Array.from({ length: 5000 }, (_, i) => hash32(1, 0, i)));
const FILES = {
  '.gitattributes': '*.safetensors filter=lfs',
  'config.json': '{"model_type": "llama"}',
  'model.safetensors': WEIGHTS,
  'tokenizer.json': '{}',
  'additional_chat_templates/tools.jinja': '{{ tools }}',
  'empty.bin': '',
  'merges.txt': '',
};
const PULLED = Object.keys(FILES).filter((path) => !/^\.git|\.bin$/.test(path));

const hub = await startHub();
const folder = mkdtempSync(join(tmpdir(), 'r3-hub-'));
let cache: string;
let runs = 0;
let waits: number[];
beforeEach(() => {
  cache = join(folder, String(runs++), 'hub');
  waits = [];
  hub.seen = [];
  hub.listsBlobs = true;
  hub.trouble = () => undefined;
  hub.repositories.clear();
  hub.repositories.set(NAME, makeRepository(FILES));
});
afterEach(() => expect(halfFiles(cache)).toEqual([]));
afterAll(async () => {
  await hub.close();
  rmSync(folder, { recursive: true });
});

const root = (): string => join(cache, 'models--org--model');
const blob = (content: Uint8Array): string => join(root(), 'blobs', sha256(content));

function pull(env: Record<string, string> = {}, options: Partial<PullOptions> = {}): Promise<Pulled> {
  const at = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache, HF_TOKEN_PATH: join(folder, 'none') };
  return pullModel(
    { repository: NAME, revision: undefined },
    {
      settings: readHubSettings({ ...at, ...env }),
      signal: new AbortController().signal,
      wait: async (milliseconds) => {
        waits.push(milliseconds);
      },
      ...options,
    },
  );
}

async function failure(promise: Promise<unknown>): Promise<Error & { code: string }> {
  try {
    await promise;
  } catch (error) {
    expect(showsSecret(String(error) + String((error as Error).cause))).toBe(false);
    return error as Error & { code: string };
  }
  throw new Error('expected a failure, got none');
}

/** Files under a final name that are not what the name promises, and leftovers of their making. */
function halfFiles(at: string): string[] {
  const repository = join(at, 'models--org--model');
  const names = (path: string): string[] => (existsSync(path) ? readdirSync(path) : []);
  const blobs = names(join(repository, 'blobs')).filter((name) => {
    if (name.endsWith('.incomplete')) return false;
    const content = readFileSync(join(repository, 'blobs', name));
    return name !== sha256(content) && name !== gitHash(content);
  });
  const leftovers = ['refs', 'snapshots', 'blobs'].flatMap((room) =>
    names(join(repository, room)).filter((name) => name.endsWith('.partial')),
  );
  return [...blobs, ...leftovers];
}

function expectWhole(pulled: Pulled): void {
  for (const path of PULLED) {
    expect(readFileSync(join(pulled.directory, path))).toEqual(
      Buffer.from(FILES[path as keyof typeof FILES]),
    );
  }
  expect(readdirSync(join(root(), 'blobs')).filter((name) => name.endsWith('.incomplete'))).toEqual([]);
}

/** Makes this trouble in the first answers about a path, one each. */
function troubleWith(pattern: RegExp, ...troubles: Trouble[]): void {
  hub.trouble = ({ path }) => (pattern.test(path) ? troubles.shift() : undefined);
}
const LARGE = new RegExp(`^/${sha256(WEIGHTS)}$`);
const API = /^\/api\//;

describe('a pull', () => {
  test('lays the cache out as the Hugging Face tools do', async () => {
    const pulled = await pull();
    const { commit } = hub.repositories.get(NAME) ?? { commit: '' };
    expect(pulled).toEqual({
      repository: NAME,
      revision: 'main',
      commit,
      directory: join(root(), 'snapshots', commit),
      files: PULLED,
      bytes: PULLED.reduce((sum, path) => sum + FILES[path as keyof typeof FILES].length, 0),
      downloadedBytes: pulled.bytes,
    });
    expectWhole(pulled);
    expect(readFileSync(join(root(), 'refs', 'main'), 'utf8')).toBe(commit);
    expect(readlinkSync(join(pulled.directory, 'model.safetensors'))).toBe(
      join('..', '..', 'blobs', sha256(WEIGHTS)),
    );
    expect(readlinkSync(join(pulled.directory, 'additional_chat_templates', 'tools.jinja'))).toBe(
      join('..', '..', '..', 'blobs', gitHash(Buffer.from('{{ tools }}'))),
    );
    expect(readdirSync(root()).toSorted()).toEqual(['blobs', 'refs', 'snapshots']);
  });

  test('loads nothing twice, and nothing at all offline', async () => {
    const first = await pull();
    hub.seen = [];
    expect(await pull()).toEqual({ ...first, downloadedBytes: 0 });
    expect(hub.seen.map(({ path }) => path)).toEqual([`/api/models/${NAME}/revision/main`]);
    hub.seen = [];
    const offline = await pull({ HF_HUB_OFFLINE: '1' });
    expect({ ...offline, files: offline.files.toSorted() }).toEqual({
      ...first,
      files: first.files.toSorted(),
      downloadedBytes: 0,
    });
    expect(hub.seen).toEqual([]);
  });

  test('takes a tag or a commit, notes a tag, and asks for files by commit', async () => {
    const { commit } = await pull();
    const at = async (revision: string): Promise<Pulled> =>
      pullModel(
        { repository: NAME, revision },
        {
          settings: readHubSettings({ HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache }),
          signal: new AbortController().signal,
        },
      );
    expect(await at('v1')).toMatchObject({ revision: 'v1', commit, downloadedBytes: 0 });
    expect(await at(commit)).toMatchObject({ revision: commit, commit, downloadedBytes: 0 });
    expect(readdirSync(join(root(), 'refs')).toSorted()).toEqual(['main', 'v1']);
    const files = hub.seen.filter(({ path }) => path.includes('/resolve/'));
    // An empty file needs no request.
    expect(files).toHaveLength(PULLED.length - 1);
    for (const { path } of files) expect(path).toContain(`/resolve/${commit}/`);
  });

  test('of a newer commit loads what changed and keeps both snapshots', async () => {
    const before = await pull();
    const changed = makeRepository({ ...FILES, 'tokenizer.json': '{"version": 2}', LICENSE: 'MIT' });
    hub.repositories.set(NAME, changed);
    const after = await pull();
    expect(after).toMatchObject({ commit: changed.commit, downloadedBytes: 17 });
    expect(readFileSync(join(before.directory, 'tokenizer.json'), 'utf8')).toBe('{}');
    expect(readFileSync(join(after.directory, 'tokenizer.json'), 'utf8')).toBe('{"version": 2}');
    expect(readFileSync(join(root(), 'refs', 'main'), 'utf8')).toBe(changed.commit);
  });

  test('sends the token to the hub and to no other host', async () => {
    expectWhole(await pull({ HF_TOKEN: TOKEN }));
    const hosts = { hub: new Set<unknown>(), files: new Set<unknown>() };
    for (const { host, authorization } of hub.seen) hosts[host].add(authorization);
    expect(hosts).toEqual({ hub: new Set([`Bearer ${TOKEN}`]), files: new Set([undefined]) });
  });

  test('asks file by file for size and hash where the listing has none', async () => {
    hub.listsBlobs = false;
    expectWhole(await pull());
    expect(hub.seen.filter(({ method }) => method === 'HEAD')).toHaveLength(PULLED.length);
    expect(hub.seen.filter(({ method, host }) => method === 'HEAD' && host === 'files')).toEqual([]);
  });

  test('follows the redirect of a repository that was renamed', async () => {
    hub.repositories.set('new/model', makeRepository(FILES));
    hub.trouble = ({ path }) =>
      path.includes(NAME)
        ? { status: 307, headers: { location: path.replace(NAME, 'new/model') } }
        : undefined;
    expectWhole(await pull());
  });

  test('loads the content of two equal files once', async () => {
    hub.repositories.set(NAME, makeRepository({ ...FILES, 'adapter_model.safetensors': WEIGHTS }));
    expectWhole(await pull());
    expect(hub.seen.filter(({ host }) => host === 'files')).toHaveLength(1);
  });

  test('puts the files themselves into the snapshot where links are not wanted', async () => {
    hub.repositories.set(NAME, makeRepository({ ...FILES, 'adapter_model.safetensors': WEIGHTS }));
    const env = { HF_HUB_DISABLE_SYMLINKS: '1' };
    const pulled = await pull(env);
    expectWhole(pulled);
    for (const path of pulled.files) {
      expect(lstatSync(join(pulled.directory, path)).isSymbolicLink()).toBe(false);
    }
    // Only what two files share stays beside them.
    expect(readdirSync(join(root(), 'blobs'))).toEqual([sha256(WEIGHTS)]);
    expect(await pull(env)).toMatchObject({ downloadedBytes: 0 });
  });

  test('repairs a snapshot that another tool left with a file less, or a blob of another size', async () => {
    const pulled = await pull();
    unlinkSync(join(pulled.directory, 'tokenizer.json'));
    truncateSync(blob(WEIGHTS), 7);
    const again = await pull();
    expectWhole(again);
    expect(again.downloadedBytes).toBe(WEIGHTS.length);
  });

  test('places config.json last: a snapshot that is not finished has none', async () => {
    const { commit } = hub.repositories.get(NAME) ?? { commit: '' };
    const inTheWay = join(root(), 'snapshots', commit, 'merges.txt', 'x');
    mkdirSync(inTheWay, { recursive: true });
    expect((await failure(pull())).code).toBe('bad-file');
    expect(existsSync(join(root(), 'snapshots', commit, 'config.json'))).toBe(false);
    expect(existsSync(join(root(), 'refs'))).toBe(false);
    rmSync(dirname(inTheWay), { recursive: true });
    expectWhole(await pull());
  });

  test('tells how much is there, never more than all', async () => {
    const told: [number, number][] = [];
    const { bytes } = await pull({}, { onProgress: (...numbers) => told.push(numbers) });
    expect(told[0]).toEqual([0, bytes]);
    expect(told.at(-1)).toEqual([bytes, bytes]);
    for (const [present] of told) expect(present).toBeLessThanOrEqual(bytes);
  });
});

describe('a download that is interrupted', () => {
  test('goes on from any byte, and loads only the rest', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(WEIGHTS.length), async (length) => {
        rmSync(cache, { recursive: true, force: true });
        mkdirSync(dirname(blob(WEIGHTS)), { recursive: true });
        writeFileSync(`${blob(WEIGHTS)}.incomplete`, WEIGHTS.subarray(0, length));
        hub.seen = [];
        const pulled = await pull();
        expectWhole(pulled);
        expect(pulled.downloadedBytes).toBe(pulled.bytes - length);
        const ranges = hub.seen.filter(({ host }) => host === 'files').map(({ range }) => range);
        if (length === WEIGHTS.length) expect(ranges).toEqual([]);
        else expect(ranges).toEqual([length === 0 ? undefined : `bytes=${length}-`]);
      }),
      { numRuns: 15, examples: [[0], [1], [WEIGHTS.length - 1], [WEIGHTS.length]] },
    );
  });

  test('goes on where the connection was cut, again and again, in one run', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(2500), { maxLength: 4 }), async (cuts) => {
        rmSync(cache, { recursive: true, force: true });
        troubleWith(LARGE, ...cuts.map((cutAfter) => ({ cutAfter })));
        const pulled = await pull();
        expectWhole(pulled);
        expect(pulled.downloadedBytes).toBeLessThanOrEqual(pulled.bytes);
      }),
      { numRuns: 12 },
    );
  });

  test('by Ctrl-C at any moment keeps what came, and the next run ends at the same bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(WEIGHTS.length), async (after) => {
        rmSync(cache, { recursive: true, force: true });
        troubleWith(LARGE, { cutAfter: after });
        const stop = new AbortController();
        const onProgress = (present: number): void => {
          expect(halfFiles(cache)).toEqual([]);
          if (present >= after) stop.abort();
        };
        // The wait before a resend is where it hears of the signal at the latest.
        const options = { signal: stop.signal, onProgress, wait: async () => stop.abort() };
        const outcome = await pull({}, options).then(
          () => 'done',
          (error: unknown) => (error as { code: string }).code,
        );
        expect(['done', 'cancelled']).toContain(outcome);
        expect(halfFiles(cache)).toEqual([]);
        const snapshots = join(root(), 'snapshots');
        if (outcome === 'cancelled') expect(existsSync(snapshots)).toBe(false);
        hub.trouble = () => undefined;
        expectWhole(await pull());
      }),
      { numRuns: 12 },
    );
  });

  test('begins again with a server that does not know Range', async () => {
    troubleWith(LARGE, { cutAfter: 1000 }, { ignoresRange: true });
    const pulled = await pull();
    expectWhole(pulled);
    expect(pulled.downloadedBytes).toBe(pulled.bytes + 1000);
  });

  test.each([
    ['sends another part', { partFrom: 500 }],
    ['sends a part of another file', { body: WEIGHTS.subarray(0, 3000) }],
    ['has no such part', { status: 416 }],
  ])('begins again with a server that %s', async (_, trouble) => {
    troubleWith(LARGE, { cutAfter: 1000 }, trouble);
    expectWhole(await pull());
    expect(hub.seen.filter(({ host }) => host === 'files').at(-1)?.range).toBeUndefined();
  });

  test.each([
    ['other bytes', Buffer.alloc(1000, 1)],
    ['more bytes than the file has', Buffer.alloc(6000, 1)],
    ['as many other bytes', Buffer.alloc(WEIGHTS.length, 1)],
  ])('with %s in its beginning is loaded from byte 0', async (_, beginning) => {
    mkdirSync(dirname(blob(WEIGHTS)), { recursive: true });
    writeFileSync(`${blob(WEIGHTS)}.incomplete`, beginning);
    expectWhole(await pull());
  });
});

describe('bytes that are not the file', () => {
  test.each([
    [
      'other ones',
      Buffer.alloc(WEIGHTS.length, 7),
      /model\.safetensors: expected the hash [0-9a-f]{64}, got/,
    ],
    ['more', Buffer.concat([WEIGHTS, WEIGHTS]), /model\.safetensors: expected 5000 bytes, got more/],
  ])('(%s) are deleted, and there is no snapshot', async (_, body, message) => {
    hub.trouble = ({ path }) => (LARGE.test(path) ? { body } : undefined);
    const error = await failure(pull());
    expect(error).toMatchObject({ code: 'mismatch', message: expect.stringMatching(message) as unknown });
    expect(existsSync(blob(WEIGHTS))).toBe(false);
    const left = readdirSync(join(root(), 'blobs')).filter((name) => name.startsWith(sha256(WEIGHTS)));
    for (const name of left) expect(readFileSync(join(root(), 'blobs', name))).toHaveLength(0);
    expect(existsSync(join(root(), 'snapshots'))).toBe(false);
    expect(existsSync(join(root(), 'refs'))).toBe(false);
    hub.trouble = () => undefined;
    expectWhole(await pull());
  });

  test('are found in a small file too', async () => {
    hub.trouble = ({ path }) =>
      path.endsWith('config.json') ? { body: Buffer.from('{"model_type": "other"}') } : undefined;
    const error = await failure(pull());
    expect(error.message).toMatch(/config\.json: expected the hash [0-9a-f]{40}, got [0-9a-f]{40}/);
  });
});

describe('a server in trouble', () => {
  test('is asked again after growing waits', async () => {
    troubleWith(API, { status: 503 }, { status: 500 }, { status: 502 });
    expectWhole(await pull());
    expect(waits).toEqual([1000, 2000, 4000]);
  });

  test('is asked six times and no more', async () => {
    hub.trouble = () => ({ status: 503 });
    const notes: string[] = [];
    const error = await failure(pull({}, { onNote: (line) => notes.push(line) }));
    expect(error.code).toBe('no-network');
    expect(error.message).toBe(
      `${hub.endpoint}/api/models/${NAME}/revision/main: expected an answer, got status 503`,
    );
    expect(hub.seen).toHaveLength(6);
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000]);
    expect(notes[0]).toBe(`${error.message}; next try in 1 s`);
  });

  test('that cuts every listing after some bytes is asked six times and no more', async () => {
    hub.trouble = () => ({ cutAfter: 20 });
    expect((await failure(pull())).code).toBe('no-network');
    expect(hub.seen).toHaveLength(6);
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000]);
  });

  test('that begins each file anew and never ends it is left', async () => {
    hub.trouble = ({ host }) => (host === 'files' ? { ignoresRange: true, cutAfter: 1000 } : undefined);
    expect((await failure(pull())).code).toBe('no-network');
    const sends = hub.seen.filter(({ host }) => host === 'files').length;
    // Six, or a few more where a cut connection loses bytes that a later one brings.
    expect(sends).toBeGreaterThanOrEqual(6);
    expect(sends).toBeLessThanOrEqual(12);
  });

  test('that cuts a download more often than six times is asked as long as bytes come', async () => {
    hub.trouble = ({ host }) => (host === 'files' ? { cutAfter: 400 } : undefined);
    expectWhole(await pull());
    expect(hub.seen.filter(({ host }) => host === 'files').length).toBeGreaterThan(6);
  });

  test.each([
    [{ 'retry-after': '7' }, 7000],
    [{ ratelimit: '"api";r=0;t=55' }, 55_000],
    [{}, 1000],
  ])('that limits requests (%j) is given the time it asks for', async (headers, milliseconds) => {
    troubleWith(API, { status: 429, headers });
    expectWhole(await pull());
    expect(waits).toEqual([milliseconds]);
  });

  test('that asks for an hour is not waited for', async () => {
    troubleWith(API, { status: 429, headers: { 'retry-after': '3600' } });
    const error = await failure(pull());
    expect(error.message).toMatch(/too many requests \(429\), try again in 3600 seconds; with HF_TOKEN set/);
    expect(waits).toEqual([]);
  });

  test('in the middle of a download is asked again for the rest', async () => {
    troubleWith(LARGE, { cutAfter: 900 }, { status: 503 }, { status: 504 });
    const pulled = await pull();
    expectWhole(pulled);
    expect(hub.seen.filter(({ host }) => host === 'files').at(-1)?.range).toMatch(/^bytes=\d+-$/);
  });

  test('that redirects in a circle, or to nowhere, is left', async () => {
    hub.trouble = ({ path }) => ({ status: 302, headers: { location: path } });
    expect((await failure(pull())).message).toMatch(/got too many redirects/);
    hub.trouble = () => ({ status: 302, headers: { location: 'ftp:elsewhere' } });
    expect((await failure(pull())).code).toBe('no-network');
  });
});

describe('what cannot be had is one clear error:', () => {
  const refuse = async (env: Record<string, string> = {}): Promise<{ code: string; message: string }> => {
    const { code, message } = await failure(pull(env));
    expect(message).not.toContain('\n');
    expect(existsSync(join(root(), 'snapshots'))).toBe(false);
    return { code, message };
  };
  const repository = (change: object): void => {
    hub.repositories.set(NAME, { ...makeRepository(FILES), ...change });
  };

  test('a repository that does not exist, or is private', async () => {
    hub.repositories.clear();
    expect(await refuse()).toEqual({
      code: 'not-found',
      message: `${NAME}: expected a repository that exists, got none at ${hub.endpoint}/${NAME}; check the name, or for a private one set HF_TOKEN`,
    });
    expect((await refuse({ HF_TOKEN: TOKEN })).message).toMatch(/whether the token may read it$/);
    repository({ access: 'private' });
    expect((await refuse()).code).toBe('not-found');
    expectWhole(await pull({ HF_TOKEN: TOKEN }));
  });

  test('a gated repository', async () => {
    repository({ access: 'gated' });
    expect(await refuse()).toEqual({
      code: 'no-access',
      message: `${NAME}: expected access, got a gated repository; accept its licence at ${hub.endpoint}/${NAME}, then set HF_TOKEN to a token of your account`,
    });
    expect((await refuse({ HF_TOKEN: TOKEN })).message).toMatch(
      /check that HF_TOKEN is a token of the account/,
    );
  });

  test('a revision that does not exist', async () => {
    repository({ revisions: ['v1'] });
    expect(await refuse()).toEqual({
      code: 'not-found',
      message: `${NAME}: expected a revision that exists, got "main"; ${hub.endpoint}/${NAME}/tree/main lists branches and tags`,
    });
  });

  test('a token that the hub refuses, or that cannot be one', async () => {
    expect((await refuse({ HF_TOKEN: 'hf_wrong' })).message).toMatch(/got one that it refuses; set HF_TOKEN/);
    const broken = await failure(Promise.resolve().then(() => pull({ HF_TOKEN: `${TOKEN} \u2713` })));
    expect(broken.message).toBe(
      'HF_TOKEN: expected a token of letters, digits and signs, got one with other characters',
    );
  });

  test('a status that has no meaning here, with what the server says, but not the token', async () => {
    hub.trouble = () => ({ status: 451, headers: { 'x-error-message': `not for ${TOKEN}` } });
    expect(await refuse({ HF_TOKEN: TOKEN })).toEqual({
      code: 'no-access',
      message: `${NAME}: expected access, got status 451 (not for ***)`,
    });
  });

  test('a file that the other host refuses, without the signature of its address', async () => {
    hub.trouble = ({ host }) => (host === 'files' ? { status: 403 } : undefined);
    const { code, message } = await refuse();
    expect(code).toBe('no-access');
    expect(message).toMatch(
      /^http:\/\/127\.0\.0\.1:\d+\/[0-9a-f]{64}: expected the file, got status 403; try again$/,
    );
  });

  test('no network, said at once', async () => {
    const gone = await startHub();
    await gone.close();
    const env = { HF_ENDPOINT: gone.endpoint };
    const { code, message } = await refuse(env);
    expect(code).toBe('no-network');
    expect(message).toMatch(/got ECONNREFUSED; is there a network, and does it reach 127\.0\.0\.1:\d+\?$/);
    expect(waits).toEqual([]);
    const behindProxy = await refuse({ ...env, HTTPS_PROXY: 'http://user:password@proxy' });
    expect(behindProxy.message).toMatch(/does not use HTTPS_PROXY/);
    expect(behindProxy.message).not.toContain('password');
  });

  test('something at HF_ENDPOINT that is no hub', async () => {
    hub.trouble = ({ path }) => (API.test(path) ? { body: Buffer.from('<html>') } : undefined);
    expect((await refuse()).message).toMatch(
      /expected the hub's answer in JSON, got something else; is HF_ENDPOINT right/,
    );
    hub.trouble = ({ path }) => (API.test(path) ? { body: Buffer.from('{"sha": 1}') } : undefined);
    expect((await refuse()).message).toMatch(/expected of the hub a commit and its files, got \{"sha":1\}/);
  });

  test('a listing of any JSON', async () => {
    const listing = fc.record({
      sha: fc.oneof(fc.constant('a'.repeat(40)), fc.jsonValue()),
      siblings: fc.oneof(
        fc.array(
          fc.record({
            rfilename: fc.oneof(fc.constantFrom('config.json', 'model.safetensors'), fc.jsonValue()),
            size: fc.jsonValue(),
            blobId: fc.jsonValue(),
            lfs: fc.oneof(fc.jsonValue(), fc.record({ sha256: fc.jsonValue(), size: fc.jsonValue() })),
          }),
        ),
        fc.jsonValue(),
      ),
    });
    await fc.assert(
      fc.asyncProperty(listing, async (body) => {
        // Whatever it names is not there.
        hub.trouble = ({ path }) =>
          API.test(path) ? { body: Buffer.from(JSON.stringify(body)) } : { status: 404 };
        expect(['bad-file', 'not-found']).toContain((await refuse()).code);
      }),
      { numRuns: 100 },
    );
  });

  test('a disk without room, before anything is loaded', async () => {
    const { files } = makeRepository(FILES);
    repository({
      files: { ...files, 'model.safetensors': { content: WEIGHTS, isLarge: true, listedSize: 2 ** 52 } },
    });
    const { code, message } = await refuse();
    expect(code).toBe('no-space');
    expect(message).toMatch(
      /expected room for 4503599628 MB, got \d+ MB free on this disk; free some, or set HF_HUB_CACHE/,
    );
    expect(hub.seen).toHaveLength(1);
  });

  test('an index that names a shard that is not there', async () => {
    const index = JSON.stringify({
      weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' },
    });
    const shards = {
      'config.json': '{}',
      'model.safetensors.index.json': index,
      'model-00001-of-00002.safetensors': WEIGHTS,
    };
    hub.repositories.set(NAME, makeRepository(shards));
    expect((await failure(pull())).message).toBe(
      `${NAME}: expected a whole model, got a repository without model-00002-of-00002.safetensors`,
    );
  });

  test('a model that is not in the cache, offline', async () => {
    const { code, message } = await refuse({ HF_HUB_OFFLINE: '1' });
    expect(code).toBe('not-found');
    expect(message).toMatch(/expected a cached snapshot of "main" \(HF_HUB_OFFLINE is set\), got none/);
    expect(hub.seen).toEqual([]);
  });

  test('a repository that another process writes', async () => {
    const locks = join(cache, '.locks', 'models--org--model');
    mkdirSync(locks, { recursive: true });
    writeFileSync(join(locks, `lock.${process.ppid}`), '');
    expect((await refuse()).message).toContain(
      `expected a repository that nobody writes, got one that process ${process.ppid} writes`,
    );
    rmSync(join(locks, `lock.${process.ppid}`));
    const { pid } = spawnSync(process.execPath, ['-e', '0']);
    writeFileSync(join(locks, `lock.${pid}`), '');
    expectWhole(await pull());
    expect(readdirSync(locks)).toEqual([]);
  });
});
