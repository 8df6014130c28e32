/**
 * How a function-calling problem is put to a model, one prompt set for each style of call.
 *
 * Where the tools stand and in which form is the vendor's way; the sentences are our own. Hermes and Qwen: system turn,
 * tools one a line between `<tools>` tags, as in their chat templates. Llama 3.1: the first user turn, as its template
 * does with tools in the user message. Phi-4-mini: system turn, a list between `<|tool|>` tags, as on its model card.
 * The others: system turn. Give the model's chat template no tools of its own beside these.
 */
import { R3Error } from '../lib/errors.ts';
import type { Message } from '../method/episode.ts';
import type { Prompts } from '../method/task.ts';
import { STYLE_NAMES } from './verify/call-styles/styles.ts';
import type { StyleName } from './verify/call-styles/styles.ts';
import { writeJson } from './verify/json-values.ts';
import type { Tool } from './verify/tools.ts';
import type { Value } from './verify/values.ts';

// As quoted by public translations of arXiv 2505.24726, appendix A.
const REFLECT =
  'You tried performing the following task, but failed in generating the correct tool call. Reflect on what went ' +
  'wrong and write a short explanation that will help you do better next time.';

export function promptsOf(name: string): Prompts {
  return { name: styleOf(name), reflect: REFLECT };
}

export function styleOf(name: string): StyleName {
  const style = STYLE_NAMES.find((each) => each === name);
  if (style !== undefined) return style;
  throw new R3Error(
    'task',
    'bad-option',
    `prompts: expected ${STYLE_NAMES.join(' or ')}, got ${JSON.stringify(name)}`,
  );
}

/** The conversation with the tools and the form of a call put before it. */
export function poseCalls(messages: readonly Message[], tools: readonly Tool[], style: StyleName): Message[] {
  const instructions = INSTRUCTIONS[style](tools);
  if (style === 'llama') {
    const first = messages.findIndex(({ role }) => role === 'user');
    return messages.map((message, i) =>
      i === first ? { ...message, content: `${instructions}\n\n${message.content}` } : message,
    );
  }
  const [first, ...rest] = messages;
  return first?.role === 'system'
    ? [{ role: 'system', content: `${first.content}\n\n${instructions}` }, ...rest]
    : [{ role: 'system', content: instructions }, ...messages];
}

const ALL_CALLS = 'Make every call that the request needs and no other. Take the values from the request.';
const NO_TOOL =
  'If no tool fits the request, or it lacks a value that a tool requires, say so and call none.';
const NO_TOOL_LIST = 'If no tool fits the request, or it lacks a value that a tool requires, answer [].';

const INSTRUCTIONS: Readonly<Record<StyleName, (tools: readonly Tool[]) => string>> = {
  hermes: (tools) =>
    [
      'You can call tools. Their signatures stand between <tools> and </tools>, one in each line:',
      `<tools>\n${tools.map(asFunction).join('\n')}\n</tools>`,
      'Write each call as a JSON object between <tool_call> and </tool_call>:',
      '<tool_call>\n{"name": "the tool", "arguments": {"parameter": "value"}}\n</tool_call>',
      `${ALL_CALLS} ${NO_TOOL}`,
    ].join('\n'),
  llama: (tools) =>
    [
      'Answer the request below with a call of one of these functions.',
      tools.map(asLine).join('\n\n'),
      'Write the call as {"name": "the function", "parameters": {"parameter": "value"}} with values in place, no ' +
        'variables, and nothing else. Where several calls are needed, put "; " between them.',
      NO_TOOL,
    ].join('\n\n'),
  phi: (tools) =>
    [
      `You can call tools.<|tool|>${list(tools)}<|/tool|>`,
      'Write the calls as <|tool_call|>[{"name": "the tool", "arguments": {"parameter": "value"}}]<|/tool_call|>.',
      `${ALL_CALLS} ${NO_TOOL}`,
    ].join('\n'),
  xlam: (tools) =>
    [
      'You can call tools. Answer with one JSON list of all the calls and nothing else:',
      '[{"name": "the tool", "arguments": {"parameter": "value"}}]',
      `${ALL_CALLS} ${NO_TOOL_LIST}`,
      `The tools:\n${list(tools)}`,
    ].join('\n'),
  json: (tools) =>
    [
      'You can call functions. Answer with the calls as one JSON list and nothing else:',
      '```json\n[{"name": "the function", "arguments": {"parameter": "value"}}]\n```',
      `${ALL_CALLS} ${NO_TOOL_LIST}`,
      `The functions:\n${list(tools)}`,
    ].join('\n'),
  python: (tools) =>
    [
      'You can call functions. Answer with one list of calls in Python syntax and nothing else:',
      '[function(parameter="value", other=1), module.function(parameter=[1, 2])]',
      `Name every parameter. ${ALL_CALLS} ${NO_TOOL_LIST}`,
      `The functions:\n${list(tools)}`,
    ].join('\n'),
};

function asLine(tool: Tool): string {
  return writeJson(tool.schema);
}

function list(tools: readonly Tool[]): string {
  return `[${tools.map(asLine).join(', ')}]`;
}

function asFunction(tool: Tool): string {
  return writeJson(
    new Map<string, Value>([
      ['type', 'function'],
      ['function', tool.schema],
    ]),
  );
}
