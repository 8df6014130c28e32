/** Set-ups that are supported: the audit stops none of them, leaves nothing behind and says the same each time. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { audit, auditLines, requireAudit, type AuditCheck } from '../../src/audit.ts';
import { makeFakeEngine } from '../../src/engine/fake.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { LocalEngineOptions } from '../../src/engine/local/local-engine.ts';
import type { LoraOptions } from '../../src/engine/local/lora.ts';
import { hash32, makeRng } from '../../src/lib/rng.ts';
import { METHODS, TRAINED_TOKENS } from '../../src/method/choices.ts';
import type { Message, Problem } from '../../src/method/episode.ts';
import type { Task } from '../../src/method/task.ts';
import { crossEntropyLoss } from '../../src/method/loss.ts';
import { mine } from '../../src/mine.ts';
import { makePlayer, type PlayerOptions } from '../../src/player.ts';
import type { TrainOptions } from '../../src/train-options.ts';
import { loadTokenizer } from '../../src/text/tokenizer.ts';
import { fewOf, mineWith, openStart, OPTIONS, playerOn, stateHash } from './testing.ts';

const failed = (checks: readonly AuditCheck[]): AuditCheck[] =>
  checks.filter(({ state }) => state === 'failed');

/** The state after one update: what any training after an audit goes through. */
async function stateAfterStep(engine: Engine): Promise<string> {
  const datums = [{ tokens: [1, 3, 5, 7, 9, 2], positions: [3, 4, 5] }];
  await engine.forwardBackward(datums, crossEntropyLoss());
  await engine.step({ ...OPTIONS.adam, learningRate: 1e-3 });
  return stateHash(engine);
}

describe('the start model', () => {
  const lora: LoraOptions = {
    rank: 4,
    alpha: 8,
    dropout: 0,
    rsLora: false,
    targets: 'all-linear',
    layers: null,
  };
  const setups: [string, Partial<LocalEngineOptions>][] = [
    ['all weights', {}],
    ['an adapter', { lora }],
    ['an adapter with dropout', { lora: { ...lora, dropout: 0.2 } }],
    ['an adapter on int8 weights', { lora, dtype: 'int8' }],
  ];
  test.each(setups)('%s: passes, leaves no trace, and again to the same sentences', async (_, options) => {
    const engine = await openStart(options);
    const player = playerOn(engine, { options: { temperature: 0.9 } });
    const mined = fewOf(await mineWith(player));
    const before = await stateHash(engine);
    const sampled = await player.attempt(mined.failures[0]!.problem, 4, 5);

    const checks = await audit(player, mined, OPTIONS);
    expect(failed(checks)).toEqual([]);
    expect(() => requireAudit(checks)).not.toThrow();
    expect(await stateHash(engine)).toBe(before);
    expect(Math.max(...Object.values(await engine.gradientNorms()))).toBe(0);
    expect(await player.attempt(mined.failures[0]!.problem, 4, 5)).toEqual(sampled);
    expect(await audit(player, mined, OPTIONS)).toEqual(checks);

    const fresh = await openStart(options);
    expect(await stateAfterStep(engine)).toBe(await stateAfterStep(fresh));
    await Promise.all([engine.close(), fresh.close()]);
  });

  test('each check has one line, with its state and its name', async () => {
    const engine = await openStart();
    const player = playerOn(engine);
    const lines = auditLines(await audit(player, fewOf(await mineWith(player)), OPTIONS));
    await engine.close();
    expect(lines).toHaveLength(16);
    for (const line of lines) expect(line).toMatch(/^(ok     |warning|failed )  [a-z -]{17}  \S/);
    expect(lines.join('\n')).toMatch(/signal +\d+ of 8 groups of 4 carry a signal/);
  });
});

/** The answer is "again". */
const task: Task = {
  name: 'again',
  promptSets: ['plain'],
  prompts: () => ({ name: 'plain', reflect: 'use' }),
  pose: ({ id }) => [{ role: 'user', content: id }],
  poseAgain: ({ id }) => id,
  verify: (_, answer) =>
    answer.trim().endsWith('again') ? { ok: true } : { ok: false, class: 'wrong', why: 'not again' },
  parseRow: (_, index) => ({ id: String(index) }),
  known: () => [
    { answer: 'again', ok: true },
    { answer: 'use', ok: false },
  ],
};
const withSystem: Task = {
  ...task,
  pose: (problem, prompts): Message[] => [{ role: 'system', content: 'use' }, ...task.pose(problem, prompts)],
};

const WORDS = ['the', 'numbers', 'use', 'try', '12', '+'];
const PROBLEMS: Problem[] = WORDS.flatMap((a) => WORDS.map((b) => ({ id: `${a} ${b}` })));
const SAMPLING = { temperature: 1, maxAttemptTokens: 40, maxReflectionTokens: 40 };
const fixture = (kind: string): string =>
  fileURLToPath(new URL(`../fixtures/tokenizers/${kind}`, import.meta.url));

/** Names of the checks that fail for a scripted model that says one thing or another, then a stop token. */
async function failedWith(
  directory: string,
  posed: Task,
  stop: string,
  wrap = (word: string): string => word,
  choices: Partial<TrainOptions> = {},
  sampling: Partial<PlayerOptions> = {},
): Promise<string[]> {
  const { encode } = loadTokenizer(directory);
  const engine = makeFakeEngine((prompt, index, seed) => {
    const word = makeRng(hash32(seed, prompt.length, index)).pick(['again', 'use', 'use try', 'try']);
    return [...encode(wrap(word)), ...encode(stop)];
  });
  const player = makePlayer(engine, directory, posed, posed.prompts(''), { ...SAMPLING, ...sampling });
  const mined = fewOf(await mine(player, PROBLEMS, { ...OPTIONS.mining, seed: 1 }));
  const checks = await audit(player, mined, { ...OPTIONS, ...choices });
  expect(engine.calls.steps).toEqual([]);
  return failed(checks).map(({ name, detail }) => `${name}: ${detail}`);
}

describe.each([
  ['byte-level', '<|im_end|>'],
  ['byte-level', '<|endoftext|>'],
  ['byte-fallback', '<|end|>'],
  ['word-level', '<|end|>'],
])('the template and tokenizer %s, a turn ended by %s', (kind, stop) => {
  test.each([
    ['without', task],
    ['with', withSystem],
  ])('%s a system message', async (_, posed) => {
    expect(await failedWith(fixture(kind), posed, stop)).toEqual([]);
  });
});

describe('each choice of the method', () => {
  const choices: [Partial<TrainOptions>, Partial<PlayerOptions>?][] = [
    ...TRAINED_TOKENS.map((trainTokens): [Partial<TrainOptions>] => [{ trainTokens }]),
    ...METHODS.map((method): [Partial<TrainOptions>] => [{ method }]),
    [{ retriesPerReflection: 3 }],
    [{ rounds: 3, trainTokens: 'both' }],
    [{}, { told: 'reason' }],
    [{ trainTokens: 'both' }, { dropAttempt: true }],
    [{ method: 'rejection-sampling' }, { topP: 0.9 }],
  ];
  test.each(choices)('%o %o', async (options, sampling) => {
    const plain = (word: string): string => word;
    expect(await failedWith(fixture('byte-level'), task, '<|im_end|>', plain, options, sampling)).toEqual([]);
  });

  test.each(TRAINED_TOKENS)('on the start model: %s', async (trainTokens) => {
    const engine = await openStart();
    const player = playerOn(engine);
    const checks = await audit(player, fewOf(await mineWith(player)), { ...OPTIONS, trainTokens });
    await engine.close();
    expect(failed(checks)).toEqual([]);
  });
});

describe('templates that are unlike others', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'supported-'));
  afterAll(() => rmSync(scratch, { recursive: true }));
  const folderOf = (template: string): string => {
    const folder = mkdtempSync(join(scratch, 'model-'));
    cpSync(fixture('byte-level'), folder, { recursive: true });
    writeFileSync(join(folder, 'chat_template.jinja'), template);
    return folder;
  };
  const chatml = (content: string, header = ''): string =>
    `{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.role == 'assistant' %}${header}{% endif %}` +
    `{{ ${content} }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n${header}`;
  const thinking = (word: string): string => `<think>use</think>${word}`;

  test('one that trims answers', async () => {
    expect(await failedWith(folderOf(chatml('message.content | trim')), task, '<|im_end|>')).toEqual([]);
  });

  test('one that drops thinking, for a model that writes none', async () => {
    const folder = folderOf(chatml("message.content.split('</think>')[-1]"));
    expect(await failedWith(folder, task, '<|im_end|>')).toEqual([]);
    expect(await failedWith(folder, task, '<|im_end|>', thinking)).toEqual([
      expect.stringMatching(/^template: /),
    ]);
  });

  test('one that keeps thinking, and one that opens it', async () => {
    expect(await failedWith(folderOf(chatml('message.content')), task, '<|im_end|>', thinking)).toEqual([]);
    const opening = folderOf(chatml('message.content', '<think>'));
    expect(await failedWith(opening, task, '<|im_end|>', (word) => `use</think>${word}`)).toEqual([]);
  });
});
