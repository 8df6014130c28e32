/**
 * Plain JSON, for models without a form of their own: a call or a list of calls, in a code fence or not, with prose
 * around it or not.
 *
 * The keys are `name` or `function`, and `arguments` or `parameters`. `[]` calls nothing. Two candidates are an error,
 * because neither is the answer.
 */
import type { CallStyle } from './call.ts';
import { afterThinking, parseJsonCalls, writeCall } from './extract.ts';

const FORM = {
  nameKeys: ['name', 'function'],
  argumentKeys: ['arguments', 'parameters'],
  several: false,
};

export const json: CallStyle = {
  parse: (text) => parseJsonCalls(afterThinking(text), FORM),
  render: (calls) => `[${calls.map((call) => writeCall(call, FORM)).join(', ')}]`,
};
