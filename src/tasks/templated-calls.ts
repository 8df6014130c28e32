/**
 * Function calling in miniature: the one call that a request asks for, out of a few listed tools.
 *
 * Problems are drawn from templates (`templated-calls-generator.ts`) for the start model of this project, one word per
 * token; `function-calling` is the task on public rows. An answer is a verb, a noun, and pairs of argument and value
 * in any order: `send train origin oslo dest rome`. Four classes of error, in this order: `format`, `tool choice`,
 * `parameter name` (one missing or too many), `parameter value`.
 */
import { R3Error } from '../lib/errors.ts';
import type { Problem, Verdict } from '../method/episode.ts';
import type { Prompts, Task } from '../method/task.ts';
import {
  drawCalls,
  renderCall,
  renderPosed,
  toolName,
  type Call,
  type CallSplit,
} from './templated-calls-generator.ts';
import { describeCallReflection, pairs } from './templated-calls-reflections.ts';

export interface TemplatedCallProblem extends Problem {
  /** Tools and request, as they are posed. */
  text: string;
  /** The wanted call: `send train origin oslo dest rome`. */
  call: string;
}

export type CallErrorClass = 'format' | 'tool choice' | 'parameter name' | 'parameter value';

const SHORT: Prompts = { name: 'short', reflect: 'why' };

export const templatedCalls = {
  name: 'templated-calls',
  promptSets: [SHORT.name],
  prompts: (name) => {
    if (name === SHORT.name) return SHORT;
    throw new R3Error('task', 'bad-option', `prompts: expected ${SHORT.name}, got ${JSON.stringify(name)}`);
  },
  pose: ({ text }) => [{ role: 'user', content: text }],
  poseAgain: () => 'again',
  verify,
  parseRow,
  known,
  describeReflection: ({ call }, attempt, reflection) =>
    describeCallReflection(wantedCall(call), tryParseCall(attempt), reflection),
  generate: (options) => generateCalls({ ...options, split: 'held-out' }),
} satisfies Task<TemplatedCallProblem>;

/** `count` distinct problems of a split, a function of the options alone. */
export function generateCalls(options: {
  count: number;
  split: CallSplit;
  seed: number;
}): TemplatedCallProblem[] {
  return drawCalls(options).map((drawn, index) => ({
    id: `${options.split}-${options.seed}-${index}`,
    text: renderPosed(drawn),
    call: renderCall(drawn.call),
  }));
}

function verify({ call }: TemplatedCallProblem, answer: string): Verdict {
  const wrong = (errorClass: CallErrorClass, expected: string, got: string): Verdict => ({
    ok: false,
    class: errorClass,
    why: `expected ${expected}, got ${got === '' ? 'nothing' : got}`,
  });
  const wanted = wantedCall(call);
  const got = tryParseCall(answer);
  if (got === undefined) return wrong('format', 'verb, noun, and pairs of argument and value', answer.trim());
  if (toolName(got) !== toolName(wanted)) return wrong('tool choice', toolName(wanted), toolName(got));
  const names = ({ values }: Call): string => [...values.keys()].toSorted().join(' ');
  if (names(got) !== names(wanted)) return wrong('parameter name', names(wanted), names(got));
  for (const [name, value] of wanted.values) {
    const other = got.values.get(name) ?? '';
    if (other !== value) return wrong('parameter value', `${name} ${value}`, `${name} ${other}`);
  }
  return { ok: true };
}

/** A text as a call; undefined where it is not one, or names an argument twice. */
function tryParseCall(text: string): Call | undefined {
  const [verb, noun, ...rest] = text.trim().split(/\s+/);
  const items = pairs(rest);
  if (verb === undefined || noun === undefined || items === undefined) return undefined;
  const values = new Map(items);
  return values.size === items.length ? { verb, noun, values } : undefined;
}

function wantedCall(text: string): Call {
  const call = tryParseCall(text);
  if (call === undefined) throw new Error(`internal error: no call: ${text}`);
  return call;
}

/** `{text, call}`, with an optional `id`; other fields are ignored. Without an id, equal problems have equal ids. */
function parseRow(row: unknown): TemplatedCallProblem {
  const fail = (field: string, expected: string, got: unknown): never => {
    const shown = (JSON.stringify(got) ?? 'nothing').slice(0, 60);
    throw new R3Error('task', 'bad-row', `${field}: expected ${expected}, got ${shown}`);
  };
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return fail('row', 'an object', row);
  const { id, text, call } = row as Record<string, unknown>;
  if (typeof text !== 'string' || text.trim() === '') return fail('text', 'tools and a request', text);
  if (typeof call !== 'string' || tryParseCall(call) === undefined)
    return fail('call', 'verb, noun, and pairs of argument and value', call);
  if (id !== undefined && id !== null && (typeof id !== 'string' || id === ''))
    return fail('id', 'a text that is not empty, or no id', id);
  return { id: id ?? text, text, call };
}

/** The wanted call, the same with its arguments in reverse, and one answer that fails in each of the classes. */
function known({ call }: TemplatedCallProblem): { answer: string; ok: boolean }[] {
  const { verb, noun, values } = wantedCall(call);
  const render = (items: readonly (readonly string[])[]): string =>
    [verb, noun, ...items.map((item) => item.join(' '))].join(' ');
  const items = [...values];
  const right = [render(items), render(items.toReversed())];
  const wrong = [
    '',
    verb,
    `${call} ${call}`,
    call.replace(noun, 'nothing'),
    `${call} other 1`,
    ...(items.length === 0
      ? []
      : [render(items.slice(1)), render(items.map(([name, value]) => [name, `not-${value}`]))]),
  ];
  return [
    ...right.map((answer) => ({ answer, ok: true })),
    ...wrong.map((answer) => ({ answer, ok: false })),
  ];
}
