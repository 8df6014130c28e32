/**
 * Messages of a chat request as text, by the model's chat template.
 */
import { R3Error } from '../lib/errors.ts';
import type { ChatFormat } from '../text/chat.ts';
import type { Message } from '../text/message.ts';

/** Messages and tools as templates see them: general JSON. */
export interface PromptRequest {
  messages: readonly Record<string, unknown>[];
  tools: readonly Record<string, unknown>[] | undefined;
  addGenerationPrompt: boolean;
  continueFinalMessage: boolean;
  /** What the template sees beside them. */
  variables: Record<string, unknown>;
}

/** Throws R3Error `bad-template`. */
export type RenderPrompt = (request: PromptRequest) => string;

/** Plain messages only. */
export function plainRenderer(format: ChatFormat): RenderPrompt {
  return ({ messages, tools, addGenerationPrompt, continueFinalMessage, variables }) => {
    const fail = (what: string): R3Error =>
      new R3Error('text', 'bad-template', `chat template: expected plain messages, got ${what}`);
    if (tools !== undefined) throw fail('tools');
    if (!addGenerationPrompt || continueFinalMessage) throw fail('a message to continue');
    if (Object.keys(variables).length > 0) throw fail('variables');
    return format.render(messages as unknown as Message[]);
  };
}
