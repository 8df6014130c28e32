/**
 * Function calling: answer a request with calls of the tools that are offered.
 *
 * The paper's first task (arXiv 2505.24726), on rows of xLAM (APIGen), of Hammer's test sets and of BFCL's single-turn
 * categories (`function-calling-rows.ts`). A prompt set is a style of call (`verify/call-styles`), `hermes` by
 * default; answers are read in the same style and judged by the rules that the problem names (`verify/calls.ts`), in
 * four classes of error: `format`, `tool choice`, `parameter name`, `parameter value`.
 */
import type { Verdict } from '../method/episode.ts';
import type { Prompts, Task } from '../method/task.ts';
import { poseCalls, promptsOf, styleOf } from './function-calling-prompts.ts';
import { parseAnswerRow, parseRow, readProblem } from './function-calling-rows.ts';
import type { CallProblem } from './function-calling-rows.ts';
import { findCalls } from './verify/call-styles/find-calls.ts';
import type { Call } from './verify/call-styles/call.ts';
import { STYLES, STYLE_NAMES } from './verify/call-styles/styles.ts';
import { CALL_RULES, judgeCalls } from './verify/calls.ts';
import type { AcceptedCall, Wanted } from './verify/calls.ts';
import type { Parameter, Tool } from './verify/tools.ts';
import { isDict, isList } from './verify/values.ts';
import type { Value } from './verify/values.ts';

export type { CallProblem } from './function-calling-rows.ts';

export const functionCalling = {
  name: 'function-calling',
  promptSets: STYLE_NAMES,
  prompts: promptsOf,
  pose: (problem, prompts) => poseCalls(problem.messages, readProblem(problem).tools, styleOf(prompts.name)),
  // The tools still stand at the beginning of the conversation.
  poseAgain: (problem) => problem.messages.at(-1)?.content ?? '',
  verify,
  parseRow,
  known,
  answersIn,
  rules: CALL_RULES,
  answerRow,
} satisfies Task<CallProblem>;

function verify(problem: CallProblem, answer: string, prompts: Prompts): Verdict {
  const { tools, wanted } = readProblem(problem);
  return judgeCalls(STYLES[styleOf(prompts.name)].parse(answer), wanted, tools, problem.rules);
}

function answerRow(
  row: unknown,
  index: number,
  rules?: string,
  text?: string,
  prompts?: Prompts,
): { problem: CallProblem; prompts: Prompts } {
  const { problem, style } = parseAnswerRow(row, index, rules, text);
  return { problem, prompts: style === undefined ? (prompts ?? promptsOf('json')) : promptsOf(style) };
}

/** The wanted calls, and answers with another tool, another parameter, a call too many, no call and no meaning. */
function known(problem: CallProblem, prompts: Prompts): { answer: string; ok: boolean }[] {
  const { tools, wanted } = readProblem(problem);
  const style = STYLES[styleOf(prompts.name)];
  const good = tryGoodCalls(wanted, tools);
  const answers = (bad: readonly (readonly Call[])[]): { answer: string; ok: boolean }[] =>
    bad.map((calls) => ({ answer: style.render(calls), ok: false }));

  const junk = ['', 'I do not know', '42', '{', '```'].map((answer) => ({ answer, ok: false }));
  if (good === undefined) return junk;
  const right = { answer: style.render(good), ok: true };
  const [first, ...rest] = good;
  const someCall = { name: tools[0]?.name ?? 'tool', arguments: new Map() };
  if (first === undefined)
    return [right, { answer: 'I cannot do this.', ok: true }, ...answers([[someCall]])];
  if (wanted === 'any call') return [right, ...junk, ...answers([[]])];
  const more = new Map([...first.arguments, ['not_a_parameter', true]] as const);
  return [
    right,
    ...answers([
      [],
      [...good, first],
      [{ ...first, name: `${first.name}_other` }, ...rest],
      [{ ...first, arguments: more }, ...rest],
    ]),
    ...junk,
  ];
}

/**
 * Calls that are right: of accepted values the first that is not "". undefined where none can be, as in four rows of
 * BFCL: a required parameter has no accepted value, or an accepted one that may not be left out is not declared.
 */
export function tryGoodCalls(wanted: Wanted, tools: readonly Tool[]): readonly Call[] | undefined {
  if (wanted === 'any call') return [{ name: tools[0]?.name ?? 'tool', arguments: new Map() }];
  if ('gold' in wanted) return wanted.gold;
  const calls: Call[] = [];
  for (const accepted of wanted.accepted) {
    const call = tryGoodCall(
      accepted,
      tools.find(({ name }) => name === accepted.name),
    );
    if (call === undefined) return undefined;
    calls.push(call);
  }
  return calls;
}

function tryGoodCall(accepted: AcceptedCall, tool: Tool | undefined): Call | undefined {
  const given = new Map<string, Value>();
  for (const [name, values] of accepted.parameters) {
    const isRequired = tool?.required.includes(name) === true;
    const isDeclared = tool?.parameters.has(name) !== false;
    const first = values.find((value) => value !== '');
    if (first !== undefined && isDeclared) given.set(name, goodValue(first, tool?.parameters.get(name)));
    else if (values.includes('') && isRequired) given.set(name, '');
    else if (!values.includes('')) return undefined;
  }
  const isWhole = tool?.required.every((name) => given.has(name)) !== false;
  return isWhole ? { name: accepted.name, arguments: given } : undefined;
}

/** Of a dict as BFCL writes accepted ones, a list of values for each key, the dict itself. */
function goodValue(value: Value, parameter: Parameter | undefined): Value {
  const isOfDicts = parameter?.itemType === 'dict';
  if (isList(value) && isOfDicts) return value.map((each) => goodValue(each, { ...parameter, type: 'dict' }));
  if (!isDict(value) || parameter?.type !== 'dict') return value;
  const entries = [...value].flatMap(([key, values]): [string, Value][] => {
    const first = isList(values) ? values.find((each) => each !== '') : values;
    return first === undefined ? [] : [[key, first]];
  });
  return new Map(entries);
}

/** Each list of calls that a reflection holds, in any style, and all its calls together; written in the run's style. */
function answersIn(problem: CallProblem, reflection: string, prompts: Prompts): string[] {
  const style = STYLES[styleOf(prompts.name)];
  const names = readProblem(problem).tools.map(({ name }) => name);
  const lists = findCalls(reflection, names);
  if (lists.length > 1) lists.push(lists.flat());
  const whole = style.parse(reflection);
  // Prose is an answer only where no call is wanted, and there it gives nothing away.
  const isAnswer = whole.ok && whole.calls.length > 0;
  return [...(isAnswer ? [reflection] : []), ...lists.map((calls) => style.render(calls))];
}
