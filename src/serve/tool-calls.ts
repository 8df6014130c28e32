/**
 * Tool calls in a model's text, in the form of Hermes and Qwen models:
 *
 *     <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>
 *
 * The text comes in pieces. It goes on as early as it is certain: only from where a `<tool_call>` may begin, and the
 * white space before it, it is held back. A block that is whole and well-formed is a call; any other stays text, as
 * it is. White space between a call and the text around it is dropped.
 */
import { isObject } from '../lib/json.ts';

export interface ToolCall {
  name: string;
  /** JSON, as OpenAI's clients expect it. */
  arguments: string;
}

export type ToolPart = { text: string } | { call: ToolCall };

export interface ToolCallReader {
  push(text: string): ToolPart[];
  /** What was held back. */
  end(): ToolPart[];
}

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';

export function makeToolCallReader(): ToolCallReader {
  let held = '';
  /** A call was the last thing: white space that follows it is dropped. */
  let isAfterCall = false;

  const take = (length: number): ToolPart[] => {
    const text = held.slice(0, length);
    held = held.slice(length);
    return text === '' ? [] : [{ text }];
  };
  const dropSpace = (): void => {
    if (!isAfterCall) return;
    held = held.trimStart();
    isAfterCall = held === '';
  };

  return {
    push: (piece) => {
      held += piece;
      const parts: ToolPart[] = [];
      for (;;) {
        dropSpace();
        const open = held.indexOf(OPEN);
        const certain = open < 0 ? held.length - lengthThatMayOpen(held) : open;
        parts.push(...take(held.slice(0, certain).trimEnd().length));
        const close = open < 0 ? -1 : held.indexOf(CLOSE);
        if (close < 0) return parts;
        const end = close + CLOSE.length;
        const call = tryCall(held.slice(held.indexOf(OPEN) + OPEN.length, close));
        if (call === undefined) {
          parts.push(...take(end));
          continue;
        }
        parts.push({ call });
        held = held.slice(end);
        isAfterCall = true;
      }
    },
    end: () => {
      dropSpace();
      return take(held.length);
    },
  };
}

/** Length of the end of the text that begins a `<tool_call>`. */
function lengthThatMayOpen(text: string): number {
  for (let length = Math.min(OPEN.length - 1, text.length); length > 0; length--) {
    if (OPEN.startsWith(text.slice(-length))) return length;
  }
  return 0;
}

/** Exactly a name and an object of arguments. */
function tryCall(text: string): ToolCall | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || Object.keys(value).length !== 2) return undefined;
  const { name, arguments: given } = value;
  if (typeof name !== 'string' || name === '' || !isObject(given)) return undefined;
  return { name, arguments: JSON.stringify(given) };
}
