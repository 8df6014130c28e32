/**
 * Messages of a chat request as text, by the model's chat template.
 */
import type { ChatTemplate } from '../text/template.ts';

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

/** `now`: what templates that print a date see, in UTC. */
export function templateRenderer(template: ChatTemplate, now: () => Date): RenderPrompt {
  return (request) => template.render({ ...request, tools: request.tools ?? null, now: now() }).text;
}
