/**
 * Phi-4-mini: `<|tool_call|>[{"name": "add", "arguments": {"a": 1}}]<|/tool_call|>`; and Phi-3.5, which was trained
 * on no form of its own and is asked for JSON.
 *
 * The tags may be absent, and the list may lack its brackets, as these models often write it; `parameters` is read
 * like `arguments`. Phi-4-mini's model card: https://huggingface.co/microsoft/Phi-4-mini-instruct
 */
import { NO_CALL } from './call.ts';
import type { CallStyle } from './call.ts';
import { afterThinking, parseJsonCalls, writeCall } from './extract.ts';

const OPEN = '<|tool_call|>';
const CLOSE = '<|/tool_call|>';
const FORM = { nameKeys: ['name'], argumentKeys: ['arguments', 'parameters'], several: true };
const SPECIAL = /<\|\/?tool_call\|>|<\|end\|>/g;

export const phi: CallStyle = {
  parse: (text) => {
    const parsed = parseJsonCalls(afterThinking(text).replace(SPECIAL, ' '), FORM);
    return !parsed.ok && text.includes(OPEN) ? { ...parsed, tried: true } : parsed;
  },
  render: (calls) =>
    calls.length === 0
      ? NO_CALL
      : `${OPEN}[${calls.map((call) => writeCall(call, FORM)).join(', ')}]${CLOSE}`,
};
