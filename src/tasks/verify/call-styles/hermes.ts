/**
 * Hermes, Qwen 2.5 and Qwen 3: each call between tags, text around them allowed.
 *
 *     <tool_call>
 *     {"name": "add", "arguments": {"a": 1, "b": 2}}
 *     </tool_call>
 *
 * A text without the opening tag calls nothing. The form is that of the chat templates of these models.
 */
import { readJson, skipSpace } from '../json-values.ts';
import { NO_CALL, noCall, notParsed } from './call.ts';
import type { Call, CallStyle } from './call.ts';
import { afterThinking, readCall, writeCall } from './extract.ts';

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';
const FORM = { nameKeys: ['name'], argumentKeys: ['arguments'] };

export const hermes: CallStyle = {
  parse: (whole) => {
    const text = afterThinking(whole);
    const calls: Call[] = [];
    let at = text.indexOf(OPEN);
    if (at < 0) {
      return text.includes(CLOSE)
        ? notParsed(`expected ${OPEN} before ${CLOSE}, got none`)
        : noCall(`expected a call between ${OPEN} and ${CLOSE}, got no such tag`);
    }
    for (; at >= 0; at = text.indexOf(OPEN, at)) {
      const read = readJson(text, at + OPEN.length);
      if (!read.ok) return notParsed(`at ${read.at}: ${read.why}`);
      const call = readCall(read.value, FORM);
      if (typeof call === 'string') return notParsed(call);
      at = skipSpace(text, read.end);
      if (!text.startsWith(CLOSE, at)) return notParsed(`at ${at}: expected ${CLOSE}, got another text`);
      calls.push(call);
    }
    return { ok: true, calls };
  },
  render: (calls) =>
    calls.length === 0
      ? NO_CALL
      : calls.map((call) => `${OPEN}\n${writeCall(call, FORM)}\n${CLOSE}`).join('\n'),
};
