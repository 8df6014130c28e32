/**
 * Hermes, Qwen 2.5 and Qwen 3: each call between tags, text around them allowed.
 *
 *     <tool_call>
 *     {"name": "add", "arguments": {"a": 1, "b": 2}}
 *     </tool_call>
 *
 * A text without the opening tag calls nothing. The form is that of the chat templates of these models.
 */
import { parseJson, readJson, skipSpace } from '../json-values.ts';
import { NO_CALL, noCall, notParsed } from './call.ts';
import type { Call, CallStyle } from './call.ts';
import { afterThinking, isCall, OTHER_NUMBER, readCall, writeCall } from './extract.ts';

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';
const FORM = { nameKeys: ['name'], argumentKeys: ['arguments'] };

/** Whether a block between tags is a whole call, where another is none. */
function holdsCall(text: string): boolean {
  const blocks = text.split(OPEN).slice(1);
  return blocks.some((block) => {
    const end = block.indexOf(CLOSE);
    const value = end < 0 ? undefined : parseJson(block.slice(0, end).replaceAll(OTHER_NUMBER, '0'));
    return value?.ok === true && isCall(value.value, FORM);
  });
}

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
      if (!read.ok) return notParsed(`at ${read.at}: ${read.why}`, holdsCall(text));
      const call = readCall(read.value, FORM);
      if (typeof call === 'string') return notParsed(call, holdsCall(text));
      at = skipSpace(text, read.end);
      if (!text.startsWith(CLOSE, at))
        return notParsed(`at ${at}: expected ${CLOSE}, got another text`, holdsCall(text));
      calls.push(call);
    }
    return { ok: true, calls };
  },
  render: (calls) =>
    calls.length === 0
      ? NO_CALL
      : calls.map((call) => `${OPEN}\n${writeCall(call, FORM)}\n${CLOSE}`).join('\n'),
};
