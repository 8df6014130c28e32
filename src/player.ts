/**
 * A model in the role that the method gives it: it attempts a problem, reflects on a failure, and retries.
 *
 * An actor is what evaluations ask of it, whatever a conversation is to it. A player is an actor on an engine:
 * messages become ids here, once; what was sampled stays the ids that were sampled. Each function samples one
 * kind of turn and checks what can be checked. Loops decide what follows what.
 */
import type { Engine } from './engine/engine.ts';
import { generateText } from './generate.ts';
import { messageOf, R3Error } from './lib/errors.ts';
import type { Failure, Message, Problem, Score, Written } from './method/episode.ts';
import type { Prompts, Task } from './method/task.ts';
import { lengthOf } from './text/message.ts';
import { loadChatFormat, type ChatFormat, type Conversation } from './text/chat.ts';
import { loadTokenizer, type Tokenizer } from './text/tokenizer.ts';

export interface PlayerOptions {
  temperature: number;
  topK?: number | undefined;
  topP?: number | undefined;
  minP?: number | undefined;
  /** Longest attempt or retry, and longest reflection, in tokens. */
  maxAttemptTokens: number;
  maxReflectionTokens: number;
  /** What the model is told of its failure: only that it failed (the paper's), or the verdict's reason too. */
  told?: Told | undefined;
  /** Leaves the failed attempt out of the conversation that the retry is sampled in. The paper keeps it. */
  dropAttempt?: boolean | undefined;
}

export const TOLD = ['failed', 'reason'] as const;
export type Told = (typeof TOLD)[number];

/** Something that was written and what the task says of it. */
export interface Try {
  written: Written;
  score: Score;
}

/** `C`: what a conversation is to it. */
export interface Actor<P extends Problem = Problem, C = Conversation> {
  task: Task<P>;
  prompts: Prompts;
  options: PlayerOptions;
  /** The conversation that poses the bare problem. */
  pose(problem: P): C;
  /** Attempts at the bare problem, independent of each other. */
  attempt(problem: P, count: number, seed: number): Promise<Try[]>;
  /** The conversation in which the model is asked to reflect on a failed attempt. `score`: what it may be told of it. */
  askToReflect(problem: P, attempt: Written, score?: Score): C;
  /** The same after a retry that failed, in the conversation that the retry was sampled in. */
  askToReflectAgain(asked: C, retry: Written, score?: Score): C;
  reflect(asked: C, count: number, seed: number): Promise<Written[]>;
  /** The conversation in which the problem is posed again after a reflection, or after what stands in for one. */
  askAgain(problem: P, asked: C, reflection: Written): C;
  /** The same right after the attempt, with nothing between. */
  askAgainPlainly(problem: P, attempt: Written): C;
  retry(problem: P, asked: C, seed: number): Promise<Try>;
  /** Retries in the same conversation, independent of each other; the first is that of `retry`. */
  retries(problem: P, asked: C, count: number, seed: number): Promise<Try[]>;
  /**
   * A retry after a reflection; null when the reflection did not end: there is then nothing to retry after. One after a
   * reflection that a server withheld is not judged.
   */
  retryAfter(problem: P, asked: C, reflection: Written, seed: number): Promise<Try | null>;
  /** A text that no model wrote, as a reflection. */
  asWritten(text: string): Written;
}

export interface Player<P extends Problem = Problem> extends Actor<P> {
  engine: Engine;
  format: ChatFormat;
  tokenizer: Tokenizer;
  /** `beginning`: ids that every reflection starts with; they are part of what is returned, without log-probabilities of their own (0). */
  reflect(
    asked: Conversation,
    count: number,
    seed: number,
    beginning?: readonly number[],
  ): Promise<Written[]>;
}

/** How a model reads and writes. */
export interface Voice<C> {
  begin(messages: readonly Message[]): C;
  /** The conversation after a completion and the messages that follow it. */
  extend(previous: C, written: Written, next: readonly Message[]): C;
  write(asked: C, count: number, maxTokens: number, seed: number): Promise<Written[]>;
  asWritten(text: string): Written;
  /** Throws where the model cannot read a text. `what` it is, and the `remedy`, are for the message. */
  requireKnown?(what: string, content: string, remedy: string): void;
}

/** What the method asks of a model, over the way that it reads and writes. */
export function makeActor<P extends Problem, C>(
  voice: Voice<C>,
  task: Task<P>,
  prompts: Prompts,
  options: PlayerOptions,
): Actor<P, C> {
  const { maxAttemptTokens, maxReflectionTokens, told = 'failed', dropAttempt = false } = options;
  const user = (content: string): Message[] => [{ role: 'user', content }];
  const judge = async (problem: P, written: Written): Promise<Try> => ({
    written,
    score: await scoreOf(task, problem, prompts, written),
  });

  const pose = (problem: P): C => {
    const messages = task.pose(problem, prompts);
    for (const { content } of messages) {
      voice.requireKnown?.(
        `problem ${problem.id}`,
        content,
        'Choose other prompts (--prompts), leave the problem out, or take another model.',
      );
    }
    return voice.begin(messages);
  };
  const again = (problem: P): Message[] => user(task.poseAgain(problem, prompts));
  const askAgain: Actor<P, C>['askAgain'] = (problem, asked, reflection) =>
    voice.extend(dropAttempt ? pose(problem) : asked, reflection, again(problem));
  const askToReflectAgain: Actor<P, C>['askToReflectAgain'] = (asked, retry, score) => {
    const request = reflectionRequest(prompts, told, score);
    if (told === 'reason')
      voice.requireKnown?.('the reason of a failure', request, 'Tell only that it failed (--told failed).');
    return voice.extend(asked, retry, user(request));
  };
  const retries: Actor<P, C>['retries'] = async (problem, asked, count, seed) => {
    const written = await voice.write(asked, count, maxAttemptTokens, seed);
    return Promise.all(written.map((w) => judge(problem, w)));
  };
  const retry: Actor<P, C>['retry'] = async (problem, asked, seed) =>
    first(await retries(problem, asked, 1, seed));

  return {
    task,
    prompts,
    options,
    pose,
    askToReflect: (problem, attempt, score) => askToReflectAgain(pose(problem), attempt, score),
    askToReflectAgain,
    askAgain,
    askAgainPlainly: (problem, attempt) => voice.extend(pose(problem), attempt, again(problem)),
    attempt: async (problem, count, seed) => retries(problem, pose(problem), count, seed),
    retry,
    retries,
    retryAfter: async (problem, asked, reflection, seed) => {
      if (reflection.stopReason === 'filtered') return { written: voice.asWritten(''), score: WITHHELD };
      return reflection.stopReason === 'stop'
        ? retry(problem, askAgain(problem, asked, reflection), seed)
        : null;
    },
    reflect: (asked, count, seed) => voice.write(asked, count, maxReflectionTokens, seed),
    asWritten: voice.asWritten,
  };
}

export function makePlayer<P extends Problem>(
  engine: Engine,
  modelDirectory: string,
  task: Task<P>,
  prompts: Prompts,
  options: PlayerOptions,
): Player<P> {
  const tokenizer = loadTokenizer(modelDirectory);
  const format = loadChatFormat(modelDirectory, tokenizer);
  const sample = (
    prompt: readonly number[],
    count: number,
    maxTokens: number,
    seed: number,
  ): Promise<Written[]> => {
    const { contextLength } = engine.capabilities();
    if (prompt.length + maxTokens > contextLength) {
      throw new R3Error(
        'task',
        'too-long',
        `a turn of ${maxTokens} tokens after ${prompt.length}: expected at most ${contextLength} in all (the model's context), got ${prompt.length + maxTokens}. Lower --max-attempt-tokens or --max-reflection-tokens, or leave long problems out.`,
      );
    }
    const { temperature, topK, topP, minP } = options;
    const filters = {
      ...(topK === undefined ? {} : { topK }),
      ...(topP === undefined ? {} : { topP }),
      ...(minP === undefined ? {} : { minP }),
    };
    return generateText(engine, tokenizer, prompt, {
      params: { temperature, maxTokens, stopIds: format.stopIds, ...filters },
      count,
      seed,
    });
  };
  const voice: Voice<Conversation> = {
    begin: (messages) => format.begin(messages),
    extend: format.extend,
    write: async (asked, count, maxTokens, seed) => sample(asked.tokens, count, maxTokens, seed),
    asWritten: (text) => ({ tokens: tokenizer.encode(text), logprobs: [], text, stopReason: 'length' }),
    requireKnown: (what, content, remedy) => {
      if (tokenizer.unknownId === undefined || !tokenizer.encode(content).includes(tokenizer.unknownId))
        return;
      throw new R3Error(
        'task',
        'bad-row',
        `${what}: expected words that the model's tokenizer knows, got some that it does not in ${JSON.stringify(content)}. ${remedy}`,
      );
    },
  };

  return {
    ...makeActor(voice, task, prompts, options),
    engine,
    format,
    tokenizer,
    async reflect(asked, count, seed, beginning = []) {
      const written = await sample(
        [...asked.tokens, ...beginning],
        count,
        options.maxReflectionTokens - beginning.length,
        seed,
      );
      if (beginning.length === 0) return written;
      return written.map((w) => {
        const tokens = [...beginning, ...w.tokens];
        return {
          ...w,
          tokens,
          logprobs: [...beginning.map(() => 0), ...w.logprobs],
          text: tokenizer.decode(tokens),
        };
      });
    },
  };
}

/** What a server withheld says nothing of the model. */
const WITHHELD: Score = { error: 'the server withheld the rest of what was written (content filter)' };

/** The request for a reflection, with the verdict's reason where the model is told it. */
function reflectionRequest(prompts: Prompts, told: Told, score: Score | undefined): string {
  if (told === 'failed') return prompts.reflect;
  if (score === undefined || score === null || 'error' in score || score.ok)
    throw new Error('internal error: expected a failed verdict to tell the reason of');
  return `${prompts.reflect}\n\n${score.class}: ${score.why}`;
}

/**
 * An answer that was cut off fails, whatever its text: it is not known what it would have said. A verifier that throws
 * has not judged: the episode is left out by name, and its siblings go on.
 */
async function scoreOf<P extends Problem>(
  task: Task<P>,
  problem: P,
  prompts: Prompts,
  written: Written,
): Promise<Score> {
  if (written.stopReason === 'filtered') return WITHHELD;
  if (written.stopReason !== 'stop')
    return {
      ok: false,
      class: 'cut off',
      why: `expected an end of turn within ${lengthOf(written)} tokens, got none`,
    };
  try {
    return await task.verify(problem, written.text, prompts);
  } catch (error) {
    return { error: messageOf(error) };
  }
}

export function first<T>(items: readonly T[]): T {
  if (items.length === 0) throw new Error('internal error: expected at least one item');
  return items[0] as T;
}

/** How a failure is named: also the id of its group. */
export function failureId(problem: Problem, sampleIndex: number): Failure['id'] {
  return `${problem.id}#${sampleIndex}`;
}
