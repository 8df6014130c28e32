/**
 * What a template writes between an answer and the next one, and where it changes what was there before.
 *
 * The conversation is rendered up to the answer and again with what follows. The first must be the start of the
 * second, then comes the answer, then the text that is looked for.
 */
import { R3Error } from '../lib/errors.ts';
import { trim, trimStart } from './jinja/white-space.ts';
import type { Message } from './message.ts';

export type Continued = { ok: true; text: string } | { ok: false; why: string };

/** Turns in the order of the method. */
export const PROBE = [
  { role: 'user', content: 'The first question?' },
  { role: 'assistant', content: 'The first answer.' },
  { role: 'user', content: 'The second question?' },
  { role: 'assistant', content: 'The second answer.' },
  { role: 'user', content: 'The third question?' },
] as const satisfies Message[];

/** What the template writes after an answer: from its end of turn to the header of the next answer. */
export function tryContinue(
  render: (messages: readonly Message[]) => string,
  before: readonly Message[],
  answer: string,
  next: readonly Message[],
): Continued {
  let shorter: string;
  let longer: string;
  try {
    shorter = render(before);
    longer = render([...before, { role: 'assistant', content: answer }, ...next]);
  } catch (error) {
    if (error instanceof R3Error) return { ok: false, why: error.message };
    throw error;
  }
  return textBetween(shorter, longer, answer);
}

/** The part of the longer rendering that follows the shorter one and the answer. */
export function textBetween(shorter: string, longer: string, answer: string): Continued {
  if (!longer.startsWith(shorter)) return parting('the conversation so far', shorter, longer, 0);

  const rest = longer.slice(shorter.length);
  if (rest.startsWith(answer)) return { ok: true, text: rest.slice(answer.length) };
  // Many templates trim the answer. The ids that were sampled stay as they are.
  const trimmed = trim(answer);
  const start = rest.length - trimStart(rest).length;
  if (rest.startsWith(trimmed, start)) return { ok: true, text: rest.slice(start + trimmed.length) };
  return parting('the answer as it was sampled', trimmed, rest.slice(start), shorter.length + start);
}

/** Says where two renderings part. `offset`: where both begin in the longer rendering. */
function parting(what: string, expected: string, got: string, offset: number): Continued {
  let at = 0;
  while (at < expected.length && expected[at] === got[at]) at++;
  const show = (text: string): string => JSON.stringify(text.slice(Math.max(0, at - 20), at + 30));
  const why =
    `chat template: expected ${what} to stay as it is when messages are added, got a difference at character ` +
    `${offset + at}: ${show(expected)} became ${show(got)}. The template is not prefix-preserving: ` +
    'put one that keeps earlier turns unchanged into chat_template.jinja of the model directory.';
  return { ok: false, why };
}
