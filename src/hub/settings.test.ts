import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { tryModelName, type ModelName } from './name.ts';
import { hubCache, readHubSettings } from './settings.ts';

const folder = mkdtempSync(join(tmpdir(), 'r3-settings-'));
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  [{ HF_HUB_CACHE: '/a', HUGGINGFACE_HUB_CACHE: '/b', HF_HOME: '/c' }, '/a'],
  [{ HUGGINGFACE_HUB_CACHE: '/b', HF_HOME: '/c' }, '/b'],
  [{ HF_HUB_CACHE: '', HF_HOME: '/c', XDG_CACHE_HOME: '/d' }, '/c/hub'],
  [{ XDG_CACHE_HOME: '/d', HOME: '/e' }, '/d/huggingface/hub'],
  [{ HOME: '/e' }, '/e/.cache/huggingface/hub'],
  [{ HF_HOME: '~/models', HOME: '/e' }, '/e/models/hub'],
  [{ HF_HUB_CACHE: '$DISK/${PART}/hub', DISK: '/f', PART: 'g' }, '/f/g/hub'],
])('with %j the cache is %s', (env, cache) => {
  expect(hubCache(env)).toBe(resolve(cache));
});

describe('the token', () => {
  const token = (env: Record<string, string>): string | undefined =>
    readHubSettings({ HF_HOME: folder, ...env }).token;

  test('comes from HF_TOKEN, the older variable, the path, the home, in this order', () => {
    expect(token({})).toBeUndefined();
    writeFileSync(join(folder, 'token'), 'hf_home\n');
    expect(token({})).toBe('hf_home');
    writeFileSync(join(folder, 'other'), ' hf_path\r\n');
    const path = { HF_TOKEN_PATH: join(folder, 'other') };
    expect(token(path)).toBe('hf_path');
    expect(token({ ...path, HUGGING_FACE_HUB_TOKEN: 'hf_older' })).toBe('hf_older');
    expect(token({ ...path, HUGGING_FACE_HUB_TOKEN: 'hf_older', HF_TOKEN: ' hf_newer ' })).toBe('hf_newer');
    expect(token({ ...path, HF_TOKEN: ' \n' })).toBe('hf_path');
  });

  test('is not sent where that is switched off', () => {
    expect(token({ HF_TOKEN: 'hf_a', HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' })).toBeUndefined();
  });
});

test('an endpoint may have a path, and not a password, which is not shown', () => {
  const endpoint = (HF_ENDPOINT: string): string => readHubSettings({ HF_ENDPOINT, HOME: folder }).endpoint;
  expect(endpoint('')).toBe('https://huggingface.co');
  expect(endpoint('https://mirror.example/api/hf/')).toBe('https://mirror.example/api/hf');
  for (const bad of ['mirror.example', 'ftp://mirror.example', 'https://me:secret@mirror.example']) {
    expect(() => endpoint(bad)).toThrow(/^HF_ENDPOINT: expected the address of a hub, (?!.*secret)/);
  }
});

test.each(['1', 'ON', 'yes', 'True'])('HF_HUB_OFFLINE=%s means no network', (value) => {
  expect(readHubSettings({ HF_HUB_OFFLINE: value }).offline).toBe(true);
  expect(readHubSettings({ HF_HUB_OFFLINE: '0' }).offline).toBe(false);
});

test.each<[string, ModelName | undefined]>([
  ['Qwen/Qwen2.5-0.5B-Instruct', { repository: 'Qwen/Qwen2.5-0.5B-Instruct', revision: undefined }],
  ['gpt2', { repository: 'gpt2', revision: undefined }],
  ['o/m@v1.0', { repository: 'o/m', revision: 'v1.0' }],
  ['o/m@refs/pr/3', { repository: 'o/m', revision: 'refs/pr/3' }],
  ...['', 'o/', '/m', 'o/m/n', '../m', 'o/..', 'o/m..n', 'o--p/m', '-o/m', 'o/m.', 'o/m.git', 'o/m@'].map(
    (text) => [text, undefined] as [string, undefined],
  ),
  ...['o/m@../x', 'o/m@/x', 'o/m@a\\b', 'o/m@a\0', 'C:/m', 'o m/n', 'é/m', `o/${'m'.repeat(97)}`].map(
    (text) => [text, undefined] as [string, undefined],
  ),
])('%j as the name of a model is %j', (text, name) => {
  expect(tryModelName(text)).toEqual(name);
});
