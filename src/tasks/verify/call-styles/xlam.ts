/**
 * xLAM and Hammer: one JSON list, `[{"name": "add", "arguments": {"a": 1}}]`, or `{"tool_calls": [...]}`.
 *
 * `[]` calls nothing. A single call without the list and calls side by side are read too. xLAM's model card:
 * https://huggingface.co/Salesforce/xLAM-1b-fc-r (the object form), and xLAM-2 (the list).
 */
import type { CallStyle } from './call.ts';
import { afterThinking, parseJsonCalls, writeCall } from './extract.ts';

const FORM = { nameKeys: ['name'], argumentKeys: ['arguments'], several: true };

export const xlam: CallStyle = {
  parse: (text) => parseJsonCalls(afterThinking(text), FORM),
  render: (calls) => `[${calls.map((call) => writeCall(call, FORM)).join(', ')}]`,
};
