/**
 * A call of a tool, and what a style is: one way in which models write calls.
 *
 * A style reads any text without throwing, evaluates nothing, and takes time linear in the text. What a call is worth
 * is decided elsewhere (`../calls.ts`).
 */
import type { Dict } from '../values.ts';

export interface Call {
  name: string;
  arguments: Dict;
  /** Arguments without a name, in Python's syntax; the other styles have none. */
  positional?: number;
}

/**
 * `calls` may be empty: the text says that no tool is to be called. Where it is not ok, `tried` says whether the text
 * seems to hold a call that cannot be read; where it is false, there is no sign of a call. `isCall`: it is plainly a
 * call, or several, whole but in a form or with a value that is not read.
 */
export type ParsedCalls =
  | { ok: true; calls: Call[] }
  | { ok: false; tried: boolean; isCall?: boolean; why: string };

export interface CallStyle {
  parse(text: string): ParsedCalls;
  /** The text that `parse` reads as these calls. */
  render(calls: readonly Call[]): string;
}

/** What is rendered where a style has no sign for "no call". */
export const NO_CALL = 'None of the tools fits.';

export function notParsed(why: string, isCall = false): ParsedCalls {
  return { ok: false, tried: true, isCall, why };
}

export function noCall(why: string): ParsedCalls {
  return { ok: false, tried: false, why };
}
