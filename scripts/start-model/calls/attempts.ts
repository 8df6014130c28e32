/**
 * How the data of the start model answers requests: with habits that are wrong at certain places.
 *
 *   tool      of two listed tools with the wanted noun, the first is taken
 *   order     values of one type are assigned in the order in which they are mentioned, whatever their cues say
 *   omission  an optional argument that is mentioned last is left out
 *
 * A habit is the same whenever a problem is tried again, so that another attempt mostly repeats the mistake, while a
 * hint that names what is right mends it. Where no habit is at its place, the attempt is right.
 */
import type { Rng } from '../../../src/lib/rng.ts';
import type { Call, CallTool, DrawnCall } from '../../../src/tasks/templated-calls-generator.ts';

/** What a hint names: the verb under `tool`, or the value of an argument. */
export interface HintItem {
  name: string;
  value: string;
}

/** An attempt at a request, in which each habit that has its place fires with probability `rate`. `verb`: of the tool to call, where it is given. */
export function attemptOf(drawn: DrawnCall, rate: number, rng: Rng, verb?: string): Call {
  const [takesFirst, takesOrder, omits] = [rng.next() < rate, rng.next() < rate, rng.next() < rate];
  const { noun } = drawn.call;
  const candidates = drawn.tools.filter((tool) => tool.noun === noun);
  const tool =
    verb === undefined
      ? takesFirst
        ? (candidates[0] as CallTool)
        : drawn.tool
      : (candidates.find((listed) => listed.verb === verb) ?? { ...drawn.tool, verb });

  const mentioned = new Set(drawn.mentions.map(({ argument }) => argument));
  const names = tool.arguments.map(({ name }) => name).filter((name) => mentioned.has(name));
  const values = takesOrder
    ? valuesInOrder(drawn, names)
    : new Map(names.map((n) => [n, drawn.call.values.get(n) ?? '']));
  const last = drawn.mentions.findLast(({ argument }) => argument !== null)?.argument ?? '';
  if (omits && tool.arguments.some(({ name, optional }) => name === last && optional)) values.delete(last);
  return { verb: tool.verb, noun, values };
}

function valuesInOrder({ mentions, call }: DrawnCall, names: readonly string[]): Map<string, string> {
  const left = [...mentions];
  return new Map(
    names.map((name) => {
      const { type } = mentions.find(({ argument }) => argument === name) ?? {};
      const at = left.findIndex((mention) => mention.type === type);
      const [taken] = left.splice(at, 1);
      return [name, taken?.value ?? call.values.get(name) ?? ''];
    }),
  );
}

/** What a hint must name so that the attempt becomes right. Empty where it is right already. */
export function neededItems(drawn: DrawnCall, attempt: Call, rng: Rng): HintItem[] {
  const { call } = drawn;
  const isWrongTool = attempt.verb !== call.verb || attempt.noun !== call.noun;
  const base = isWrongTool ? attemptOf(drawn, 1, rng, call.verb) : attempt;
  const values = [...call.values]
    .filter(([name, value]) => base.values.get(name) !== value)
    .map(([name, value]) => ({ name, value }));
  return isWrongTool ? [{ name: 'tool', value: call.verb }, ...values] : values;
}

/** The attempt with what a hint names put in, true or not. Another tool is called as an attempt with that tool would. */
export function retryAfter(
  drawn: DrawnCall,
  attempt: Call,
  items: readonly HintItem[],
  rate: number,
  rng: Rng,
): Call {
  const verb = items.find(({ name }) => name === 'tool')?.value;
  const base = verb === undefined || verb === attempt.verb ? attempt : attemptOf(drawn, rate, rng, verb);
  const named = items.filter(({ name }) => name !== 'tool').map(({ name, value }) => [name, value] as const);
  return { ...base, values: new Map([...base.values, ...named]) };
}
