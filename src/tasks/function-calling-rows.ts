/**
 * Rows of function-calling data sets, and the problem that each becomes.
 *
 * | data set | request                                  | tools                                  | wanted                              | rules  |
 * | -------- | ---------------------------------------- | -------------------------------------- | ----------------------------------- | ------ |
 * | xLAM     | `query`, a text                          | `tools`, JSON in a text                | `answers`, JSON in a text           | strict |
 * | Hammer   | `query`, a text or messages              | `tools`, objects                       | `answers`: name or tool, arguments or parameters | strict |
 * | BFCL     | `question`, one turn of messages         | `function`                             | `ground_truth` (or `accepted`), the accepted values; none in files whose ids begin irrelevance or relevance | bfcl |
 *
 * Any list may be JSON in a text. A problem is a row too. A row may name its `rules` itself. A problem keeps tools and answers as JSON texts,
 * because 1 and 1.0 differ for BFCL and are one number in JavaScript; for the same reason a row is read from its
 * line of the file where there is one. BFCL ships the accepted values in a second file: `scripts/bfcl-join.ts`.
 */
import { R3Error } from '../lib/errors.ts';
import type { Message, Problem } from '../method/episode.ts';
import { CALL_RULES } from './verify/calls.ts';
import type { AcceptedCall, CallRules, Wanted } from './verify/calls.ts';
import { readCall } from './verify/call-styles/extract.ts';
import type { Call } from './verify/call-styles/call.ts';
import { STYLE_NAMES, tryStyle } from './verify/call-styles/styles.ts';
import type { StyleName } from './verify/call-styles/styles.ts';
import { fromPlain, parseJson, writeJson } from './verify/json-values.ts';
import { readTools } from './verify/tools.ts';
import type { Tool } from './verify/tools.ts';
import { isDict, isList } from './verify/values.ts';
import type { Dict, Value } from './verify/values.ts';

export interface CallProblem extends Problem {
  messages: Message[];
  /** JSON: the tools as the data set declares them. */
  tools: string;
  /** JSON of exact calls, or of accepted values as BFCL writes them; or any call will do. */
  wanted: { gold: string } | { accepted: string } | 'any call';
  rules: CallRules;
}

const GOLD_FORM = { nameKeys: ['name', 'tool'], argumentKeys: ['arguments', 'parameters'] };

export function parseRow(row: unknown, index: number, text?: string): CallProblem {
  const fields = readFields(row, text);
  const id = readId(fields.get('id'), index);
  const messages = readMessages(fields);
  return { id, messages, ...readJudged(fields, id) };
}

/** `{tools, accepted, completion, style}`: what is wanted and how the completion is written, where the row says it. */
export function parseAnswerRow(
  row: unknown,
  index: number,
  rules: string | undefined,
  text?: string,
): { problem: CallProblem; style: StyleName | undefined } {
  const fields = readFields(row, text);
  const id = readId(fields.get('id'), index);
  const named = fields.get('style') ?? undefined;
  const style = typeof named === 'string' ? tryStyle(named) : undefined;
  if (style === undefined && named !== undefined) return fail('style', STYLE_NAMES.join(' or '), named);
  const judged = readJudged(fields, id);
  const messages: Message[] = [{ role: 'user', content: '' }];
  return {
    problem: { id, messages, ...judged, ...(rules === undefined ? {} : { rules: readRules(rules) }) },
    style,
  };
}

/** The tools of a problem and what is wanted, as the rules take them. */
export function readProblem(problem: CallProblem): { tools: Tool[]; wanted: Wanted } {
  const { wanted } = problem;
  return {
    tools: readTools(mustParse('tools', problem.tools)),
    wanted:
      wanted === 'any call'
        ? wanted
        : 'gold' in wanted
          ? { gold: readGold(mustParse('answers', wanted.gold)) }
          : { accepted: readAccepted(mustParse('accepted', wanted.accepted)) },
  };
}

function readFields(row: unknown, text: string | undefined): Dict {
  const parsed = text === undefined ? undefined : parseJson(text);
  const value = parsed?.ok === true ? parsed.value : fromPlain(row);
  return isDict(value) ? value : fail('row', 'an object', value);
}

function readJudged(fields: Dict, id: string): Pick<CallProblem, 'tools' | 'wanted' | 'rules'> {
  const toolsField = fields.has('tools') ? 'tools' : 'function';
  const tools = unpack(toolsField, fields.get(toolsField));
  check(toolsField, () => readTools(tools));
  const given = fields.get('rules');
  const rules = given === undefined ? undefined : readRules(given);
  const shared = { tools: writeJson(tools) };

  const wanted = fields.get('wanted');
  if (wanted !== undefined) {
    // A problem of this task, as failures keep it.
    const [kind, answers] = isDict(wanted) ? ([...wanted][0] ?? []) : [];
    const inner = kind === 'gold' ? 'answers' : 'accepted';
    const row = new Map([...fields, [inner, answers ?? wanted] as const]);
    row.delete('wanted');
    return readJudged(row, id);
  }
  const acceptedField = ['accepted', 'ground_truth'].find((field) => fields.has(field));
  if (fields.has('answers') && acceptedField === undefined) {
    const answers = unpack('answers', fields.get('answers'));
    check('answers', () => readGold(answers));
    return { ...shared, wanted: { gold: writeJson(answers) }, rules: rules ?? 'strict' };
  }
  if (acceptedField !== undefined) {
    const value = fields.get(acceptedField);
    if (value === 'any call') return { ...shared, wanted: value, rules: rules ?? 'bfcl' };
    const accepted = unpack(acceptedField, value);
    check(acceptedField, () => readAccepted(accepted));
    return { ...shared, wanted: { accepted: writeJson(accepted) }, rules: rules ?? 'bfcl' };
  }
  if (/irrelevance/.test(id)) return { ...shared, wanted: { accepted: '[]' }, rules: rules ?? 'bfcl' };
  if (/relevance/.test(id)) return { ...shared, wanted: 'any call', rules: rules ?? 'bfcl' };
  throw new R3Error(
    'task',
    'bad-row',
    'row: expected answers, ground_truth or accepted, got none; BFCL has them in a second file: join the two with scripts/bfcl-join.ts',
  );
}

function readRules(value: Value): CallRules {
  return CALL_RULES.find((each) => each === value) ?? fail('rules', CALL_RULES.join(' or '), value);
}

function readId(value: Value | undefined, index: number): string {
  if (typeof value === 'string' && value !== '') return value;
  if (typeof value === 'bigint') return String(value);
  return value === undefined || value === null
    ? `row-${index + 1}`
    : fail('id', 'a text or a whole number', value);
}

/** A list that may be JSON in a text. */
function unpack(field: string, value: Value | undefined): Value {
  const inner = typeof value === 'string' ? mustParse(field, value) : value;
  return isList(inner) ? inner : fail(field, 'a list', inner);
}

function mustParse(field: string, text: string): Value {
  const parsed = parseJson(text);
  if (parsed.ok) return parsed.value;
  throw new R3Error('task', 'bad-row', `${field}: not JSON: at ${parsed.at}: ${parsed.why}`);
}

/** Names the field in what a reader throws. */
function check(field: string, read: () => unknown): void {
  try {
    read();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw error instanceof R3Error
      ? error
      : new R3Error('task', 'bad-row', `${field}: ${why}`, { cause: error });
  }
}

function readGold(value: Value): Call[] {
  return (isList(value) ? value : []).map((each) => {
    const call = readCall(each, GOLD_FORM);
    if (typeof call === 'string') throw new Error(call);
    return call;
  });
}

/** `[{fn: {arg: [accepted values]}}]`. A value that is no list counts as the only one. */
function readAccepted(value: Value): AcceptedCall[] {
  return (isList(value) ? value : []).map((each) => {
    const [entry, ...rest] = isDict(each) ? [...each] : [];
    if (entry === undefined || rest.length > 0 || !isDict(entry[1])) {
      throw new Error(`expected {function: {argument: [accepted values]}}, got ${writeJson(each)}`);
    }
    const [name, parameters] = entry;
    return {
      name,
      parameters: new Map([...parameters].map(([key, values]) => [key, isList(values) ? values : [values]])),
    };
  });
}

const ROLES: Readonly<Record<string, Message['role']>> = {
  system: 'system',
  user: 'user',
  assistant: 'assistant',
  agent: 'assistant',
  tool: 'user',
};

/**
 * The conversation so far: system, user and assistant turns, each role once in a row, the last of them a user turn.
 * What a tool answered is a user turn between tags.
 */
function readMessages(fields: Dict): Message[] {
  const field = ['query', 'question', 'messages'].find((each) => fields.has(each)) ?? 'query';
  let value = fields.get(field);
  if (typeof value === 'string') return [{ role: 'user', content: value }];
  if (isList(value) && isList(value[0])) {
    if (value.length !== 1) return fail(field, 'one turn', value);
    value = value[0];
  }
  if (!isList(value) || value.length === 0) return fail(field, 'a text or a list of messages', value);

  const messages: Message[] = [];
  for (const each of value) {
    const said = isDict(each) ? each.get('role') : undefined;
    const content = isDict(each) ? each.get('content') : undefined;
    const role = typeof said === 'string' && Object.hasOwn(ROLES, said) ? ROLES[said] : undefined;
    if (role === undefined || typeof content !== 'string') {
      return fail(field, 'messages with a role and a text as content', each);
    }
    const text = said === 'tool' ? `<tool_response>\n${content}\n</tool_response>` : content;
    const last = messages.at(-1);
    if (last?.role === role) last.content += `\n\n${text}`;
    else messages.push({ role, content: text });
  }
  if (messages.at(-1)?.role !== 'user') messages.push({ role: 'user', content: 'Go on: make the call.' });
  return messages;
}

function fail(field: string, expected: string, got: Value | undefined): never {
  const text = got === undefined ? 'nothing' : writeJson(got);
  const shown = text.length > 60 ? `${text.slice(0, 60)}...` : text;
  throw new R3Error('task', 'bad-row', `${field}: expected ${expected}, got ${shown}`);
}
