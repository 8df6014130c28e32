/**
 * Broken set-ups, each after a report of a framework's users, with its address. None of them raises an error by itself:
 * left alone, each is a run that trains and does not learn, or learns something else. The audit stops each by name.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { audit, requireAudit } from '../../src/audit.ts';
import type { Datum, Engine, SampleRequest } from '../../src/engine/engine.ts';
import { R3Error } from '../../src/lib/errors.ts';
import type { AuditName } from '../../src/method/audit.ts';
import type { Verdict } from '../../src/method/episode.ts';
import type { Mined } from '../../src/mine.ts';
import type { Player } from '../../src/player.ts';
import { START_MODEL } from '../../src/quickstart.ts';
import { countdown, type CountdownProblem } from '../../src/tasks/countdown.ts';
import { fewOf, mineWith, openStart, OPTIONS, playerOn, stateHash } from './testing.ts';

/** Faults of the code that builds datums, which nothing outside can inject. */
const datumFault = vi.hoisted(() => ({ breaks: (datum: Datum): Datum => datum }));
vi.mock('../../src/method/datum.ts', async (importOriginal) => {
  const original = await importOriginal<typeof import('../../src/method/datum.ts')>();
  return {
    ...original,
    trainedSequences: (...args: Parameters<typeof original.trainedSequences>) =>
      original
        .trainedSequences(...args)
        .map((trained) => ({ ...trained, datum: datumFault.breaks(trained.datum) })),
  };
});

let engine: Engine;
/** All failures, and few of them: what most faults need. */
let all: Mined<CountdownProblem>;
let mined: Mined<CountdownProblem>;
let weights: string;
let steps = 0;
const scratch = mkdtempSync(join(tmpdir(), 'broken-'));

beforeAll(async () => {
  const opened = await openStart();
  engine = { ...opened, step: (adam) => ((steps += 1), opened.step(adam)) };
  all = await mineWith(playerOn(engine));
  mined = fewOf(all);
  weights = await stateHash(engine);
});
beforeEach(() => {
  datumFault.breaks = (datum) => datum;
});
afterAll(async () => {
  await engine.close();
  rmSync(scratch, { recursive: true });
});

/** Names of the checks that stopped it; the message names each of them. */
async function stoppedBy(
  player: Player<CountdownProblem>,
  failures: Mined<CountdownProblem> = mined,
  options = OPTIONS,
): Promise<AuditName[]> {
  const checks = await audit(player, failures, options);
  const failed = checks.filter(({ state }) => state === 'failed');
  const error = await Promise.resolve()
    .then(() => requireAudit(checks))
    .catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(R3Error);
  for (const { name, detail } of failed) expect((error as R3Error).message).toContain(`${name}: ${detail}`);
  expect(steps).toBe(0);
  await engine.zeroGradients();
  return failed.map(({ name }) => name);
}

/** A copy of the start model with other texts in one of its files. */
function modelWith(file: string, change: (content: Record<string, unknown>) => object): string {
  const model = mkdtempSync(join(scratch, 'model-'));
  cpSync(START_MODEL, model, { recursive: true });
  const path = join(model, file);
  writeFileSync(
    path,
    JSON.stringify(change(JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>)),
  );
  return model;
}

const templateWith = (template: string): string =>
  modelWith('tokenizer_config.json', (content) => ({ ...content, chat_template: template }));

const wrong: Verdict = { ok: false, class: 'wrong', why: '' };
/** The start task with another verifier. */
const judging = (verify: (typeof countdown)['verify']): typeof countdown => ({ ...countdown, verify });
const down = (): never => {
  throw new Error('connection refused');
};

test('as it ships the set-up passes', async () => {
  const checks = await audit(playerOn(engine), mined, OPTIONS);
  expect(checks.filter(({ state }) => state === 'failed')).toEqual([]);
});

// https://github.com/huggingface/trl/issues/4159
test('log-probabilities of the trainer at another temperature than sampled', async () => {
  const deaf: Engine = {
    ...engine,
    logprobs: (datums) => engine.logprobs(datums),
    forwardBackward: (datums, loss) => engine.forwardBackward(datums, loss),
  };
  expect(await stoppedBy(playerOn(deaf, { options: { temperature: 0.8 } }))).toEqual(['log-probabilities']);
});

// https://github.com/huggingface/trl/issues/4159
test('the same in training alone, where scoring is right', async () => {
  const deaf: Engine = { ...engine, forwardBackward: (datums, loss) => engine.forwardBackward(datums, loss) };
  expect(await stoppedBy(playerOn(deaf, { options: { temperature: 0.8 } }))).toEqual(['log-probabilities']);
});

// https://github.com/huggingface/trl/issues/4772
test('log-probabilities of the sampler that are a little off', async () => {
  const off: Engine = {
    ...engine,
    sample: async (request) =>
      (await engine.sample(request)).map((c) => ({ ...c, logprobs: c.logprobs.map((x) => x - 1e-4) })),
  };
  expect(await stoppedBy(playerOn(off))).toEqual(['log-probabilities']);
});

// https://github.com/huggingface/trl/issues/6789
test.each([{ topP: 0.9 }, { topK: 20 }, { minP: 0.05 }])(
  'a filter that the ratio knows nothing of: %o',
  async (options) => {
    expect(await stoppedBy(playerOn(engine, { options }))).toEqual(['sampling']);
  },
);

// https://github.com/huggingface/trl/issues/3758
test('temperature 0, at which siblings are one', async () => {
  expect(await stoppedBy(playerOn(engine, { options: { temperature: 0 } }))).toEqual(['sampling']);
});

// https://github.com/huggingface/trl/pull/7039
test('two stop tokens, of which the sampler is told one', async () => {
  const model = modelWith('generation_config.json', (content) => ({ ...content, eos_token_id: [2, 7] }));
  const player = playerOn(engine, { model });
  player.format.stopIds.splice(1);
  expect(player.format.stopIds).toHaveLength(1);
  expect(await stoppedBy(player)).toEqual(['stop tokens']);
});

// https://github.com/huggingface/trl/pull/7039
test('two stop tokens, of which the engine knows one', async () => {
  const word = playerOn(engine).tokenizer.encode('careful');
  const model = modelWith('generation_config.json', (content) => ({
    ...content,
    eos_token_id: [2, ...word],
  }));
  const one: Engine = {
    ...engine,
    sample: (request) => engine.sample({ ...request, params: { ...request.params, stopIds: [2] } }),
  };
  expect(await stoppedBy(playerOn(one, { model }))).toContain('stop tokens');
});

// https://github.com/huggingface/trl/issues/5144
test('a mask that is shifted by one', async () => {
  datumFault.breaks = ({ tokens, positions }) => ({
    tokens,
    positions: positions.map((position) => position - 1),
  });
  expect(await stoppedBy(playerOn(engine))).toContain('mask');
});

// https://github.com/volcengine/verl/issues/3720
test('a mask that leaves out the end of a turn', async () => {
  datumFault.breaks = ({ tokens, positions }) => ({ tokens, positions: positions.slice(0, -1) });
  expect(await stoppedBy(playerOn(engine))).toContain('mask');
});

// https://github.com/unslothai/unsloth/issues/5673
test('a trainer that ignores the mask', async () => {
  const everywhere = ({ tokens }: Datum): Datum => ({
    tokens,
    positions: tokens.slice(1).map((_, i) => i + 1),
  });
  const unmasked: Engine = {
    ...engine,
    forwardBackward: async (datums, loss, options) => {
      const asked = await engine.forwardBackward(datums, loss, options);
      await engine.forwardBackward(
        datums.map(everywhere),
        (logprobs) => ({ loss: 0, gradients: logprobs.map((l) => l.map(() => 1)), metrics: {} }),
        options,
      );
      return asked;
    },
  };
  expect(await stoppedBy(playerOn(unmasked))).toEqual(['gradient']);
});

// https://github.com/huggingface/trl/issues/3452
test('a loss that never reaches the weights', async () => {
  const detached: Engine = {
    ...engine,
    forwardBackward: (datums, loss, options) =>
      engine.forwardBackward(
        datums,
        (logprobs) => ({ ...loss(logprobs), gradients: logprobs.map((l) => l.map(() => 0)) }),
        options,
      ),
  };
  expect(await stoppedBy(playerOn(detached))).toEqual(['gradient']);
});

// https://github.com/volcengine/verl/issues/3960
test('a reflection that went through text and was encoded again', async () => {
  const player = playerOn(engine);
  const again: Player<CountdownProblem> = {
    ...player,
    reflect: async (...args) =>
      (await player.reflect(...args)).map((written) => ({
        ...written,
        tokens: player.tokenizer.encode(written.text),
      })),
  };
  expect(await stoppedBy(again)).toContain('sampled ids');
});

// https://github.com/volcengine/verl/issues/2189
test('an attempt whose ids in the prompt are not those that were sampled', async () => {
  const player = playerOn(engine);
  const again: Player<CountdownProblem> = {
    ...player,
    askToReflect: (problem, attempt) =>
      player.askToReflect(problem, { ...attempt, tokens: attempt.tokens.with(0, attempt.tokens[0]! + 1) }),
  };
  expect(await stoppedBy(again)).toEqual(['sampled ids']);
});

// https://github.com/allenai/open-instruct/pull/1041
test('an end of turn appended by hand to what was cut off', async () => {
  const player = playerOn(engine, { options: { maxReflectionTokens: 2 } });
  const closed: Player<CountdownProblem> = {
    ...player,
    reflect: async (...args) =>
      (await player.reflect(...args)).map((written) =>
        written.stopReason === 'stop'
          ? written
          : {
              ...written,
              tokens: [...written.tokens, 2],
              logprobs: [...written.logprobs, 0],
              stopReason: 'stop',
            },
      ),
  };
  expect(await stoppedBy(closed)).toEqual(['sampled ids', 'log-probabilities']);
});

// https://github.com/volcengine/verl/issues/6719
test('a template that drops earlier turns', async () => {
  const model = templateWith(
    '{{ bos_token }} {% for message in messages[-1:] %}<user> {{ message.content }} {% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}',
  );
  expect(await stoppedBy(playerOn(engine, { model }))).toEqual(['template']);
});

// https://github.com/PrimeIntellect-ai/prime-rl/issues/1334
test('a template that strips what an earlier answer thought', async () => {
  const model = templateWith(
    "{{ bos_token }} {% for message in messages %}{% if message.role == 'assistant' %}<assistant> {{ message.content.split('+')[-1] | trim }} <end> {% else %}<user> {{ message.content }} {% endif %}{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}",
  );
  expect(await stoppedBy(playerOn(engine, { model }))).toEqual(['template']);
});

// https://github.com/huggingface/trl/pull/2708
test('a system message that the template moves', async () => {
  const model = templateWith(
    "{{ bos_token }} {% for message in messages if message.role != 'system' %}{% if message.role == 'assistant' %}<assistant> {{ message.content }} <end> {% else %}<user> {{ message.content }} {% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }} {% endif %}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}",
  );
  const task: typeof countdown = {
    ...countdown,
    pose: (problem, prompts) => [
      { role: 'system', content: 'check' } as never,
      ...countdown.pose(problem, prompts),
    ],
  };
  expect(await stoppedBy(playerOn(engine, { model, task }))).toEqual(['template']);
});

// https://github.com/thinking-machines-lab/tinker-cookbook/issues/643
test('a verifier that is inverted', async () => {
  const task = judging((...args) => (countdown.verify(...args).ok ? wrong : { ok: true }));
  expect(await stoppedBy(playerOn(engine, { task }))).toContain('verifier');
});

// https://github.com/thinking-machines-lab/tinker-cookbook/issues/643
test('a verifier that accepts everything', async () => {
  expect(await stoppedBy(playerOn(engine, { task: judging(() => ({ ok: true })) }))).toContain('verifier');
});

// https://github.com/thinking-machines-lab/tinker-cookbook/issues/643
test('a verifier that rejects its own known-good answer', async () => {
  const strict = judging((problem, answer, prompts) =>
    answer.includes(' ') ? wrong : countdown.verify(problem, answer, prompts),
  );
  expect(await stoppedBy(playerOn(engine, { task: strict }))).toContain('verifier');
});

// https://github.com/thinking-machines-lab/tinker-cookbook/issues/643
test('a verifier that throws on junk', async () => {
  const brittle = judging((problem, answer, prompts) => {
    if (answer === 'I do not know') throw new Error('no parser');
    return countdown.verify(problem, answer, prompts);
  });
  expect(await stoppedBy(playerOn(engine, { task: brittle }))).toEqual(['verifier']);
});

// https://github.com/volcengine/verl/issues/1683
test('a verifier that does not judge the same answer the same way', async () => {
  let calls = 0;
  const flaky = judging((...args) => (++calls % 7 === 0 ? wrong : countdown.verify(...args)));
  expect(await stoppedBy(playerOn(engine, { task: flaky }))).toEqual(['verifier']);
});

// https://github.com/verl-project/verl-omni/pull/366
test('a scorer that is down', async () => {
  const known = (problem: CountdownProblem, answer: string): boolean =>
    answer.trim() === '' ||
    answer === `${problem.nums.join(' ')} to ${problem.target}` ||
    countdown.known(problem, countdown.prompts('short')).some((k) => k.answer === answer) ||
    mined.failures.some((f) => f.problem === problem && f.attempt.text === answer);
  const task = judging((problem, answer, prompts) =>
    known(problem, answer) ? countdown.verify(problem, answer, prompts) : down(),
  );
  expect(await stoppedBy(playerOn(engine, { task }))).toContain('rewards');
});

// https://github.com/verl-project/verl-omni/pull/366
test('a scorer that was down while failures were mined', async () => {
  const player = playerOn(engine, { task: judging(down) });
  expect(await stoppedBy(player, await mineWith(player))).toContain('rewards');
});

// https://github.com/thinking-machines-lab/tinker-cookbook/issues/685
test('a model that scores 0% because its answers never count as ended, with examples', async () => {
  const player = playerOn(engine, { options: { maxAttemptTokens: 2 } });
  const none = await mineWith(player);
  expect(await stoppedBy(player, none)).toContain('start rate');
  const checks = await audit(player, none, OPTIONS);
  expect(checks.find(({ name }) => name === 'start rate')?.detail).toMatch(
    /^0 of 60 first tries passed: .* such as "\d+ \d+ \d+ to \d+" answered "\d+ .*" \(cut off: expected an end of turn/,
  );
});

// https://github.com/thinking-machines-lab/tinker-cookbook/pull/688
test('a model that scores 100%', async () => {
  const player = playerOn(engine, { task: judging(() => ({ ok: true })) });
  expect(await stoppedBy(player, await mineWith(player))).toEqual(['start rate']);
});

// https://github.com/NVIDIA-NeMo/RL/pull/4013
test('groups that are merged because their ids are the same', async () => {
  const failures = mined.failures.map((failure, i) => ({ ...failure, id: `p#${i >> 1}` }));
  expect(await stoppedBy(playerOn(engine), { ...mined, failures })).toEqual(['groups']);
});

// https://github.com/NVIDIA-NeMo/RL/pull/3882
test('two problems of one id', async () => {
  const failures = mined.failures.map((failure) => ({
    ...failure,
    problem: { ...failure.problem, id: 'p' },
  }));
  expect(await stoppedBy(playerOn(engine), { ...mined, failures })).toContain('groups');
});

// https://github.com/jsboige/CoursIA/issues/10603
test('siblings that are all the same', async () => {
  const stuck: Engine = {
    ...engine,
    sample: async (request: SampleRequest) => {
      const [only] = await engine.sample({ ...request, count: 1 });
      return Array.from({ length: request.count }, () => only!);
    },
  };
  expect(await stoppedBy(playerOn(stuck))).toEqual(['duplicates']);
});

// https://github.com/huggingface/trl/issues/3708
test('problems at which nothing ever helps', async () => {
  const failures = all.failures.map((failure) => ({
    ...failure,
    problem: { ...failure.problem, nums: [1, 2, 3], target: 98 },
  }));
  // Nor is there any known-good answer to try the verifier on.
  expect(await stoppedBy(playerOn(engine), { ...all, failures })).toEqual(['verifier', 'signal']);
});

// https://github.com/huggingface/trl/issues/3476
test('reflections that are always cut off', async () => {
  expect(await stoppedBy(playerOn(engine, { options: { maxReflectionTokens: 1 } }))).toContain('truncation');
});

// https://github.com/huggingface/trl/pull/7269
test('an engine that takes an option and ignores it', async () => {
  const capabilities = { ...engine.capabilities(), ignores: ['maxGradNorm'] };
  expect(await stoppedBy(playerOn({ ...engine, capabilities: () => capabilities }))).toEqual(['options']);
});

// https://github.com/huggingface/trl/issues/6024
test('a gradient that was left from before', async () => {
  const [failure] = mined.failures;
  const player = playerOn(engine);
  const { tokens } = player.askToReflect(failure!.problem, failure!.attempt);
  await engine.forwardBackward([{ tokens, positions: [3] }], (logprobs) => ({
    loss: 0,
    gradients: logprobs.map((l) => l.map(() => 1)),
    metrics: {},
  }));
  expect(await stoppedBy(player)).toEqual(['gradient']);
});

test('after all of these the weights are the bytes that they were', async () => {
  expect(await stateHash(engine)).toBe(weights);
  expect(steps).toBe(0);
});
