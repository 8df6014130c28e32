/**
 * Llama 3.1 to 3.3: `{"name": "add", "parameters": {"a": 1}}`, perhaps after `<|python_tag|>`.
 *
 * Meta's template asks for one call. Several are read where they stand in a list, or side by side with a semicolon,
 * a comma or white space between, as these models write them. The ids that end a turn are passed over.
 * Meta's prompt formats: https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1/
 */
import { NO_CALL } from './call.ts';
import type { CallStyle } from './call.ts';
import { afterThinking, parseJsonCalls, writeCall } from './extract.ts';

const FORM = { nameKeys: ['name'], argumentKeys: ['parameters'], several: true };
const SPECIAL = /<\|(?:python_tag|eom_id|eot_id)\|>/g;

export const llama: CallStyle = {
  parse: (text) => parseJsonCalls(afterThinking(text).replace(SPECIAL, ' '), FORM),
  render: (calls) => (calls.length === 0 ? NO_CALL : calls.map((call) => writeCall(call, FORM)).join('; ')),
};
