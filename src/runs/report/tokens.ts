/**
 * The token view of an episode: every token that the model wrote, coloured by whether it was trained, with its
 * log-probability, the start model's, and the advantage it was trained with.
 *
 * A trained token is tinted by the sign of the advantage. What the tint cannot say stands in each token's title and in
 * a table behind a fold, for phones, paper and screen readers. Tokens are the sampled ids, never a text cut again.
 */
import { escapeText } from '../charts.ts';
import type { ReportEpisode, TokenTurn } from './data.ts';
import { mean, signedNumber } from './numbers.ts';

/** Of a turn; more would be a page of its own. */
const MAX_TOKENS = 400;

export function tokenView({ tokens, advantage }: ReportEpisode): string {
  const { turns, why } = tokens;
  if (turns.length === 0) {
    return why === undefined ? '' : `<p class="none">Token by token: ${escapeText(why)}</p>`;
  }
  const text =
    advantage === null ? 'not trained' : `advantage ${signedNumber(advantage)} on each trained token`;
  return `<details class="tokens"><summary>Token by token: ${escapeText(text)}</summary>
${turns.map((turn) => turnView(turn, advantage)).join('\n')}
</details>`;
}

function turnView(turn: TokenTurn, advantage: number | null): string {
  const { texts, trained } = turn;
  const shown = texts.slice(0, MAX_TOKENS);
  const look = !trained ? '' : (advantage ?? 0) > 0 ? ' up' : (advantage ?? 0) < 0 ? ' down' : ' zero';
  const spans = shown.map((text, i) => {
    const title = `${turn.turn} token ${i + 1}: ${numbersOf(turn, i, advantage)}`;
    return `<span class="token${look}" title="${escapeText(title)}">${tokenText(text)}</span>`;
  });
  const over = texts.length - shown.length;
  return `<p class="caption">${turn.turn}, ${trained ? 'trained' : 'not trained'}: ${texts.length} tokens${changeNote(turn)}</p>
<p class="line" dir="auto">${spans.join('')}</p>${over > 0 ? `<p class="none">and ${over} more tokens</p>` : ''}
${trained ? logprobTable(turn, shown) : ''}`;
}

/** The start model's column and the change are there where the run holds them. */
function logprobTable(turn: TokenTurn, shown: readonly string[]): string {
  const compared = turn.referenceLogprobs !== undefined;
  const rows = shown.map((text, i) => {
    const { logprob = Number.NaN, reference = Number.NaN } = logprobsOf(turn, i);
    const cells = compared ? [logprob, reference, logprob - reference] : [logprob];
    return `<tr><th scope="row"><code>${tokenText(text)}</code></th>${cells.map((value) => `<td>${signedNumber(value)}</td>`).join('')}</tr>`;
  });
  const heads = ['token', 'sampled', ...(compared ? ['start model', 'change'] : [])];
  return `<details><summary>The same as numbers</summary><div class="scroll"><table class="tokens">
<caption>Log-probabilities of the ${turn.turn}, natural logarithm${compared ? ': of the model that sampled, of the start model, and the difference' : ', of the model that sampled'}.</caption>
<thead><tr>${heads.map((head) => `<th scope="col">${head}</th>`).join('')}</tr></thead>
<tbody>${rows.join('\n')}</tbody></table></div></details>`;
}

function logprobsOf(
  { logprobs, referenceLogprobs }: TokenTurn,
  i: number,
): { logprob: number | undefined; reference: number | undefined } {
  return { logprob: logprobs[i], reference: referenceLogprobs?.[i] };
}

function numbersOf(turn: TokenTurn, i: number, advantage: number | null): string {
  const { logprob, reference } = logprobsOf(turn, i);
  return [
    turn.trained ? `trained, advantage ${signedNumber(advantage ?? Number.NaN)}` : 'not trained',
    ...(logprob === undefined ? [] : [`log-probability ${signedNumber(logprob)}`]),
    ...(logprob === undefined || reference === undefined
      ? []
      : [`start model ${signedNumber(reference)}, change ${signedNumber(logprob - reference)}`]),
  ].join('; ');
}

/** The whole turn's change, so that a page without the start model's numbers says so once. */
function changeNote({ logprobs, referenceLogprobs, trained }: TokenTurn): string {
  if (!trained) return '';
  if (referenceLogprobs === undefined)
    return '; the run holds no log-probabilities of the start model for them';
  const changes = logprobs.map((logprob, i) => logprob - (referenceLogprobs[i] ?? Number.NaN));
  return `; mean change from the start model ${signedNumber(mean(changes))} nats`;
}

/** A line break shows as a sign and breaks; a token without text shows as a sign too. */
function tokenText(text: string): string {
  return text === '' ? '∅' : escapeText(text).replaceAll('\n', '↵\n');
}
