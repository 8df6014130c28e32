/** The messages of a conversation, the tools offered in it, and what a model wrote into it. */

/** Templates read these names as they are. */
export interface Message {
  role: 'system' | 'user' | 'assistant' | 'tool';
  content: string;
  /** Calls that an assistant's message makes, where they are not already part of its content. */
  tool_calls?: readonly ToolCall[];
  /** Of a tool's message: the call that it answers, and the tool. */
  tool_call_id?: string;
  name?: string;
  /** What the assistant thought before its content, for templates that keep the two apart. */
  reasoning_content?: string;
}

export interface ToolCall {
  type: 'function';
  id?: string;
  /** `arguments`: an object, or its JSON; templates differ in what they take. */
  function: { name: string; arguments: Readonly<Record<string, unknown>> | string };
}

/** What a template sees beside the messages. */
export interface PromptOptions {
  /** JSON schemas of functions, as transformers and OpenAI have them. */
  tools?: readonly Readonly<Record<string, unknown>>[];
  /** Variables of the template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

/** Something that the model wrote: the exact ids, their text without the stop token, and how it ended. */
export interface Written {
  tokens: number[];
  logprobs: number[];
  /** What the start model gives the same tokens, where training asked it. */
  referenceLogprobs?: number[];
  text: string;
  /** `filtered`: a server withheld the rest of it. */
  stopReason: 'stop' | 'length' | 'cancelled' | 'filtered';
  /** How many tokens it has, as a server that gives no ids counted them; `tokens` is then empty. */
  tokenCount?: number;
}

/** How many tokens were written, the stop token included. */
export function lengthOf({ tokens, tokenCount }: { tokens: readonly number[]; tokenCount?: number }): number {
  return tokenCount ?? tokens.length;
}
