/**
 * Arithmetic expressions in running text: what in a reflection could be meant as a whole answer.
 *
 * A run is a longest stretch of a line that is made of digits, signs, parentheses and spaces. It is cut at `=` and
 * between two operands with no sign between them; signs and parentheses that have no partner are dropped from its ends.
 * What is left counts when it parses (`arithmetic.ts`) and has a sign in it.
 *
 * As a leak detector: precise, because a passing expression uses every number once and hits the target (one that is
 * quoted as a mistake does not pass). It misses answers in words, in LaTeX or with other signs (`\times`, `x`), and those
 * given in steps, such as `92 - 57 = 35` and `64 - 35 = 29`, which are no whole answer.
 */
import { parseExpression } from './arithmetic.ts';

const RUN = /[0-9+\-*/()×÷−= \t\u00a0]+/g;
/** Between two operands with no sign between them, or at `=`. */
const CUT = /=|(?<=[0-9)])[ \t\u00a0]+(?=[0-9(])/;
const SIGN = /[+\-*/×÷−]/;

/** In the order of the text; each once. */
export function expressionsIn(text: string): string[] {
  const parts = (text.match(RUN) ?? []).flatMap((run) => run.split(CUT)).map(trimmed);
  return [...new Set(parts)].filter((part) => SIGN.test(part) && parseExpression(part).ok);
}

/** Without the signs at its ends and without parentheses that have no partner there. */
function trimmed(part: string): string {
  let [from, to] = [0, part.length];
  /** Open parentheses less closing ones, from `from` to `to`. */
  let depth = 0;
  for (const char of part) depth += step(char);
  const isLoose = (char: string): boolean => /[+\-*/×÷−\s]/.test(char);
  while (from < to) {
    const [first, last] = [part.charAt(from), part.charAt(to - 1)];
    if (isLoose(first) || first === ')' || (first === '(' && depth > 0)) {
      depth -= step(first);
      from += 1;
    } else if (isLoose(last) || last === '(' || (last === ')' && depth < 0)) {
      depth -= step(last);
      to -= 1;
    } else break;
  }
  return part.slice(from, to);
}

function step(char: string): number {
  return char === '(' ? 1 : char === ')' ? -1 : 0;
}
