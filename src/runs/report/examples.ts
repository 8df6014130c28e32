/**
 * Episodes to read: problem, failed attempt, reflection, retry, each with its verdict, and the token view.
 *
 * Whatever a model wrote is escaped, and cut with a note where it is long.
 */
import type { Score } from '../../method/episode.ts';
import { escapeText } from '../charts.ts';
import type { ReportEpisode } from './data.ts';
import { tokenView } from './tokens.ts';

/** Longer texts are cut, with a note: the page stays small whatever a model wrote. */
const MAX_TEXT_LENGTH = 4000;

export function examplesSection(episodes: readonly ReportEpisode[]): string {
  if (episodes.length === 0) return '';
  return `<section>
<h2>Episodes to read</h2>
<p class="caption">Problem, failed attempt, reflection, retry; the reflection is marked. Token by token: <span class="token up">trained up</span> <span class="token down">trained down</span> <span class="token zero">trained, without effect</span> <span class="token">not trained</span></p>
<div class="episodes">
${episodes.map(card).join('\n')}
</div>
</section>`;
}

function card(episode: ReportEpisode): string {
  const { id, label, kind, problem, attempt, attemptScore, reflection, retry, retryScore } = episode;
  const kindNote = kind === undefined ? '' : ` <small>${escapeText(kind)}</small>`;
  return `<article>
<h3>${label === undefined ? '' : `<span class="label">${escapeText(label)}</span> `}${escapeText(id)}</h3>
<dl>
<dt>Problem</dt><dd>${written(problem)}</dd>
<dt>Attempt</dt><dd>${written(attempt)}${verdict(attemptScore)}</dd>
${reflection === null ? '' : `<dt class="trained">Reflection${kindNote}</dt><dd class="trained">${written(reflection)}</dd>`}
<dt>Retry</dt><dd>${retry === null ? '<p class="none">none: the reflection did not end</p>' : written(retry)}${verdict(retryScore)}</dd>
</dl>
${tokenView(episode)}
</article>`;
}

function written(text: string): string {
  const over = text.length - MAX_TEXT_LENGTH;
  const shown = over > 0 ? text.slice(0, MAX_TEXT_LENGTH) : text;
  if (shown.trim() === '') return '<p class="none">empty</p>';
  return `<pre dir="auto">${escapeText(shown)}</pre>${over > 0 ? `<p class="none">and ${over} more characters</p>` : ''}`;
}

function verdict(score: Score): string {
  if (score === null) return '<p class="verdict">not scored</p>';
  if ('error' in score) return `<p class="verdict">not scored: ${escapeText(score.error)}</p>`;
  if (score.ok) return '<p class="verdict pass">✓ passes</p>';
  return `<p class="verdict fail">✗ fails, ${escapeText(score.class)}: ${escapeText(score.why)}</p>`;
}
