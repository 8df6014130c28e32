/** The messages of a conversation, and what a model wrote into one. */

export interface Message {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** Something that the model wrote: the exact ids, their text without the stop token, and how it ended. */
export interface Written {
  tokens: number[];
  logprobs: number[];
  text: string;
  stopReason: 'stop' | 'length' | 'cancelled';
}
