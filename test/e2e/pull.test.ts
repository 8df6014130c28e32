/** `r3 pull` as a process: stopped in the middle, gone on with, and its model used. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { makeRepository, showsSecret, startHub, TOKEN } from '../../src/hub/testing.ts';
import { fixture, makeWorkplace } from './r3.ts';

const hub = await startHub();
const { r3, folder, write, remove } = makeWorkplace();
afterAll(async () => {
  await hub.close();
  remove();
});

const FILES = Object.fromEntries(
  ['config.json', 'generation_config.json', 'model.safetensors'].map((name) => [
    name,
    readFileSync(join(fixture('llama/tiny-tied'), name)),
  ]),
);
hub.repositories.set('org/tiny', makeRepository(FILES));

test.each([
  ['SIGKILL', null, /^$/],
  ['SIGINT', 130, /stopped; what has come stays, and the same command goes on with it\n$/],
] as const)('a pull that %s ends goes on where it was, and its model answers', async (signal, code, said) => {
  const home = join(folder, signal);
  const env = { HF_ENDPOINT: hub.endpoint, HF_HOME: home, HF_TOKEN: TOKEN };
  const blobs = join(home, 'hub', 'models--org--tiny', 'blobs');
  const ended = await r3(['pull', 'org/tiny'], {
    env,
    during: (child) => {
      hub.trouble = ({ host }) =>
        host === 'files' ? { cutAfter: 100_000, onStall: () => child.kill(signal) } : undefined;
    },
  });
  expect({ code: ended.code, stdout: ended.stdout }).toEqual({ code, stdout: '' });
  expect(ended.stderr).toMatch(said);
  expect(existsSync(join(home, 'hub', 'models--org--tiny', 'snapshots'))).toBe(false);

  hub.trouble = () => undefined;
  const { code: second, stdout, stderr } = await r3(['pull', 'org/tiny'], { env });
  expect(second).toBe(0);
  expect(showsSecret(stdout + stderr + ended.stderr)).toBe(false);
  for (const [name, content] of Object.entries(FILES)) {
    expect(readFileSync(join(stdout.trim(), name))).toEqual(content);
  }
  const weights = createHash('sha256')
    .update(FILES['model.safetensors'] ?? '')
    .digest('hex');
  expect(readdirSync(blobs)).toHaveLength(3);
  expect(readdirSync(blobs)).toContain(weights);

  const tokens = write(
    'tokens.jsonl',
    [[4, 43, 19]].map((ids) => ({ tokens: ids })),
  );
  const scored = await r3(['score', 'org/tiny', '--tokens', tokens, '--json'], { env });
  expect(scored).toMatchObject({ code: 0, stderr: '' });
});
