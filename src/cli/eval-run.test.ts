import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { createRun } from '../runs/run.ts';
import { measuresOwnModel, settingsOf } from './eval-run.ts';
import { runInPlace } from './testing.ts';

const place = mkdtempSync(join(tmpdir(), 'r3-eval-run-'));
afterAll(() => rmSync(place, { recursive: true }));

const sampling = {
  temperature: 0.7,
  topP: 0.9,
  maxAttemptTokens: 21,
  maxReflectionTokens: 34,
  told: 'reason',
  dropAttempt: true,
};
function makeRun(name: string, config: object): string {
  const directory = join(place, name);
  const common = { version: 1 as const, command: 'train', task: 'countdown', prompts: { name: 'short' } };
  createRun(directory, { ...common, sampling, context: 900, ...config }).close();
  return directory;
}
const run = makeRun('trained', {});
/** As the command line leaves them where nothing is given. */
const none = { temperature: 1 };

test('what the command line does not give is as the run has it, and named', async () => {
  const settings = await settingsOf({ ...none, run }, [], {});
  expect(settings.found).toMatchObject({ task: { name: 'countdown' }, prompts: { name: 'short' } });
  expect(settings.flags).toEqual({ run, ...sampling, context: 900 });
  expect(settings.run).toEqual({
    directory: run,
    options: ['task', 'prompts', ...Object.keys(sampling), 'context'],
  });
});

test('what the command line gives stands, also where it is the default', async () => {
  const asked = { run, temperature: 1, maxAttemptTokens: 5, told: 'failed' as const, prompts: 'paper' };
  const given = ['--run', '--temperature', '--max-attempt-tokens', '--told', '--prompts'];
  const settings = await settingsOf({ ...asked, task: 'countdown' }, given, {});
  expect(settings.found.prompts.name).toBe('paper');
  expect(settings.flags).toMatchObject({ ...asked, topP: 0.9, maxReflectionTokens: 34, context: 900 });
  expect(settings.run?.options).toEqual(['topP', 'maxReflectionTokens', 'dropAttempt', 'context']);
});

test('of another task nothing is taken', async () => {
  const settings = await settingsOf({ ...none, run, task: 'gsm8k' }, [], {});
  expect(settings.found.task.name).toBe('gsm8k');
  expect(settings).toMatchObject({ flags: none, run: { options: [] } });
});

test('of a quick start, which samples in its own way, task and prompts are taken', async () => {
  const quick = makeRun('quick', { command: 'quickstart', sampling: { training: 1, evaluation: 0.9 } });
  const settings = await settingsOf({ ...none, run: quick }, [], {});
  expect(settings).toMatchObject({
    found: { prompts: { name: 'short' } },
    flags: none,
    run: { options: ['task', 'prompts'] },
  });
});

test('without a run nothing is taken', async () => {
  const settings = await settingsOf({ ...none, task: 'countdown' }, [], {});
  expect(settings).toMatchObject({ found: { prompts: { name: 'paper' } }, flags: none, run: null });
});

test("a run's own model is its folder, the checkpoint that it was saved from, and what a server serves", () => {
  const saved = makeRun('saved', {});
  mkdirSync(join(saved, 'model'));
  const origin = { baseModel: 'm', path: 'tinker://a/sampler_weights/b' };
  writeFileSync(join(saved, 'model', 'tinker.json'), JSON.stringify(origin));
  const isOwn = (directory: string, engine: 'local' | 'tinker' | 'openai', home = saved): boolean =>
    measuresOwnModel(
      { engine, model: { directory, hash: null }, run: { directory: home, options: [] } },
      saved,
    );
  expect(isOwn(join(saved, 'model'), 'local')).toBe(true);
  expect(isOwn(join(run, 'model'), 'local')).toBe(false);
  expect(isOwn('/gone/model', 'local', '/gone')).toBe(true);
  expect(isOwn(origin.path, 'tinker')).toBe(true);
  expect(isOwn('tinker://a/sampler_weights/c', 'tinker')).toBe(false);
  expect(isOwn('any name', 'openai')).toBe(true);
});

test('a run that is none is refused by name, also where a model is given', async () => {
  const args = ['--task', 'countdown', '--problems', 'p.jsonl', '--model', 'nowhere'];
  const { code, stderr } = await runInPlace(['eval', '--run', join(place, 'nothing'), ...args]);
  expect(stderr).toContain('nothing: expected a run folder, got no config.json in it');
  expect(code).toBe(1);
  const broken = makeRun('broken', { sampling: { temperature: 'warm' } });
  await expect(settingsOf({ ...none, run: broken }, [], {})).rejects.toThrow(
    /config\.json: sampling\..*expected/,
  );
});
