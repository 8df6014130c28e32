/**
 * A run folder as a person reads it: what was measured, and some of its episodes with the task's own words around them.
 *
 * `report-data.ts` gathers from it what a report needs; `r3 show` prints it.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { R3Error } from '../lib/errors.ts';
import type { EvaluationSummary } from '../method/controls.ts';
import type { Episode, Score } from '../method/episode.ts';
import { runWarnings } from '../method/metrics.ts';
import { posedText, type Prompts, type Task } from '../method/task.ts';
import type { QuickstartEvaluation } from '../quickstart.ts';
import type { ReportEpisode } from '../runs/report/data.ts';
import type { RunConfig, RunView } from '../runs/run.ts';
import { findRecordedTask } from './session.ts';
import { printable } from './table.ts';

/** Episodes on a page and under `r3 show`. */
const EPISODES = 3;
/** Candidates that are held while a large file streams by. */
const HELD = 64;

/** What every command that makes runs writes into their configuration. */
const configSchema = z.looseObject({
  task: z.string(),
  taskFile: z.strictObject({ path: z.string(), sha256: z.string() }).nullable().default(null),
  prompts: z.looseObject({ name: z.string() }),
});

/** The task of a run and the prompts it was trained with, for reading: it may not be able to judge. Throws R3Error `mismatch`. */
export function taskOfRun(config: RunConfig, directory: string): Promise<{ task: Task; prompts: Prompts }> {
  const parsed = configSchema.safeParse(config);
  if (!parsed.success) {
    throw new R3Error(
      'store',
      'mismatch',
      `${join(directory, 'config.json')}: expected a run's task and prompts, got a configuration without`,
    );
  }
  return findRecordedTask(parsed.data, directory);
}

export interface EpisodeFilter {
  step?: number | undefined;
  group?: string | undefined;
  count?: number | undefined;
}

/**
 * Episodes worth reading: the latest in which the reflection helped, at most one per group, then, where there are too
 * few, the latest others. With a group, that group as it is.
 */
export function chooseEpisodes(episodes: Iterable<Episode>, filter: EpisodeFilter = {}): Episode[] {
  const { step, group } = filter;
  const count = filter.count ?? (group === undefined ? EPISODES : Number.POSITIVE_INFINITY);
  if (group !== undefined) {
    const found: Episode[] = [];
    for (const episode of episodes) {
      if (episode.group === group && (step === undefined || episode.step === step)) found.push(episode);
    }
    return found.slice(0, count);
  }
  const helped = new Map<string, Episode>();
  const others = new Map<string, Episode>();
  const most = Math.max(HELD, count);
  for (const episode of episodes) {
    if (step !== undefined && episode.step !== step) continue;
    const held = episode.reward === 1 ? helped : others;
    const key = `${episode.step} ${episode.group}`;
    if (held.has(key)) continue;
    held.set(key, episode);
    const oldest = held.keys().next();
    if (held.size > most && oldest.done !== true) held.delete(oldest.value);
  }
  return [...[...helped.values()].toReversed(), ...[...others.values()].toReversed()].slice(0, count);
}

/** What a quick start leaves; a run that was only trained has none. */
export function quickstartOf(run: Pick<RunView, 'evaluation'>): QuickstartEvaluation | null {
  const evaluation = run.evaluation as QuickstartEvaluation | null;
  if (evaluation === null || 'details' in evaluation.summary) return evaluation;
  // Written by an earlier version, which had rates and details in one object.
  const { before, after, greedy } = evaluation.summary as unknown as EarlierSummary;
  const greedyFirstTry = { diff: Number.NaN, low: -1, high: 1 };
  const details = { before, after, greedy, greedyFirstTry };
  return { ...evaluation, summary: { ...(evaluation.summary as QuickstartEvaluation['summary']), details } };
}

interface EarlierSummary {
  before: EvaluationSummary;
  after: EvaluationSummary;
  greedy: { before: EvaluationSummary; after: EvaluationSummary };
}

/** What a reader of a run must not miss: as its evaluation says, else by its metrics. */
export function warningsOfRun(run: Pick<RunView, 'evaluation' | 'metrics'>): readonly string[] {
  return quickstartOf(run)?.warnings ?? runWarnings(run.metrics);
}

/** Episodes of a run: those that its evaluation put aside for reading, else chosen from training. */
export function episodesOfRun(run: RunView): Episode[] {
  return quickstartOf(run)?.episodes ?? chooseEpisodes(run.episodes());
}

export function reportEpisode(task: Task, prompts: Prompts, episode: Episode): ReportEpisode {
  const { problem, attempt, attemptScore, reflection, retry, score, step, group, index } = episode;
  return {
    id: step < 0 ? problem.id : `step ${step}, ${group}, reflection ${index}`,
    problem: posedText(task, problem, prompts),
    attempt: attempt.text,
    attemptScore,
    reflection: reflection?.text ?? null,
    kind: episode.kind,
    retry: retry === null ? null : retry.text,
    retryScore: score,
    advantage: episode.advantage,
    tokens: { turns: [] },
  };
}

/** An episode as plain text, the five turns of it. */
export function renderEpisode(episode: ReportEpisode): string {
  const turns: [string, string][] = [
    ['problem', episode.problem],
    ['attempt', `${shown(episode.attempt)}${verdict(episode.attemptScore)}`],
    ...reflectionTurn(episode),
    [
      'retry',
      episode.retry === null
        ? '(none: the reflection did not end)'
        : `${shown(episode.retry)}${verdict(episode.retryScore)}`,
    ],
  ];
  const body = turns.map(([name, text]) => `  ${name}\n${indent(printable(text))}`);
  return [printable(episode.id), ...body].join('\n');
}

function reflectionTurn({ reflection, kind }: ReportEpisode): [string, string][] {
  if (reflection === null) return [];
  return [[kind === undefined ? 'reflection' : `reflection (${kind})`, shown(reflection)]];
}

function shown(text: string): string {
  return text.trim() === '' ? '(empty)' : text;
}

function verdict(score: Score): string {
  if (score === null) return '\n→ not scored';
  if ('error' in score) return `\n→ not scored: ${score.error}`;
  return score.ok ? '\n→ passes' : `\n→ fails: ${score.class}: ${score.why}`;
}

function indent(text: string): string {
  return text
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n');
}
