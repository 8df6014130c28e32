/**
 * A model behind a server of chat completions, as an actor: it attempts, reflects and retries in messages.
 *
 * A conversation is its messages; the server renders them with the model's own template, each time from the beginning.
 * So what it reads of earlier turns is their text, not the ids that were sampled, and thinking that the server kept
 * apart is not among it. Written texts have no ids and no log-probabilities, only the server's count of their tokens:
 * enough for two tries and their controls, nothing to train on.
 */
import type { ChatClient } from './engine/openai/client.ts';
import type { Message, Problem } from './method/episode.ts';
import type { Prompts, Task } from './method/task.ts';
import { makeActor, type Actor, type PlayerOptions, type Voice } from './player.ts';

export type ChatActor<P extends Problem = Problem> = Actor<P, readonly Message[]>;

/** Throws what `ChatClient.complete` throws. */
export function makeChatPlayer<P extends Problem>(
  client: Pick<ChatClient, 'complete'>,
  task: Task<P>,
  prompts: Prompts,
  options: PlayerOptions,
): ChatActor<P> {
  const { temperature, topK, topP, minP } = options;
  const voice: Voice<readonly Message[]> = {
    begin: (messages) => messages,
    extend: (previous, { text }, next) => [...previous, { role: 'assistant', content: text }, ...next],
    write: async (messages, count, maxTokens, seed) => {
      const answers = await client.complete({
        messages,
        count,
        maxTokens,
        temperature,
        topK,
        topP,
        minP,
        seed,
      });
      return answers.map((answer) => ({ tokens: [], logprobs: [], ...answer }));
    },
    asWritten: (text) => ({ tokens: [], logprobs: [], text, stopReason: 'length', tokenCount: 0 }),
  };
  return makeActor(voice, task, prompts, options);
}
