/**
 * From run folders to reports: gathers what `src/runs/report` draws, and writes the pages.
 *
 * Reads each log once. Examples are chosen while the episodes stream by: one that helped, one whose reflection holds
 * a passing answer (leaked), one that did not help. Their tokens get texts where the run's tokenizer is found.
 */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf, R3Error } from '../lib/errors.ts';
import { writeFileAtomic } from '../lib/files.ts';
import { explainIssue, isObject, parseJsonObject } from '../lib/json.ts';
import { readJsonl } from '../lib/jsonl.ts';
import { passed, type Episode, type Written } from '../method/episode.ts';
import type { EvaluationFile } from '../method/evaluation-summary.ts';
import { runWarnings } from '../method/metrics.ts';
import type { Prompts, Task } from '../method/task.ts';
import { START_MODEL } from '../quickstart.ts';
import { readEvaluationConfig } from '../runs/evaluation.ts';
import type { ReportEpisode, ReportRun, TokenTurn, Turn } from '../runs/report/data.ts';
import { makeDigester } from '../runs/report/digest.ts';
import { renderReport } from '../runs/report/page.ts';
import { evaluationResults, quickstartResults, type Results } from '../runs/report/results.ts';
import { readRun, type RunConfig, type RunView, type StepRow } from '../runs/run.ts';
import { writeTensorboard, type TimedRow } from '../runs/tensorboard.ts';
import { tokenTexts } from '../serve/token-text.ts';
import { loadTokenizer, type Tokenizer } from '../text/tokenizer.ts';
import { parseEvaluationConfig, type EvaluationConfig } from './eval-config.ts';
import { measuresOwnModel } from './eval-run.ts';
import { quickstartOf, reportEpisode, taskOfRun } from './reading.ts';

/** Candidates for examples that are held while a large file streams by, and looked into for leaks. */
const HELD = 16;

/** Writes report.html into a run folder and returns its path. */
export async function writeRunReport(directory: string): Promise<string> {
  const path = join(directory, 'report.html');
  writeFileAtomic(path, renderReport([await gatherRun(directory)]));
  return path;
}

/** All that a report says of a run. Throws R3Error where the folder is no run or its task is not known. */
export async function gatherRun(directory: string): Promise<ReportRun> {
  const run = readRun(directory);
  const { task, prompts } = await taskOfRun(run.config, directory);
  const digester = makeDigester(run.metrics.map(({ step }) => step));
  const candidates = makeCandidates();
  for (const episode of run.episodes()) {
    digester.add(episode);
    candidates.add(episode);
  }
  const tokenizer = findTokenizer(directory, run.config);
  const trained = await chooseExamples(candidates, task, prompts);
  const measured = quickstartOf(run)?.episodes ?? [];
  const { sources, ...config } = run.config;
  return {
    name: directory,
    config,
    sources: stringsOf(sources),
    environment: environmentOf(run),
    rows: run.metrics,
    ...measurementOf(run),
    digest: digester.digest,
    episodes: [
      ...measured.map((episode) => ({
        ...reportEpisode(task, prompts, episode),
        label: passed(episode.score) === true ? 'after training, helped' : 'after training, did not help',
      })),
      ...trained.map(({ episode, label }) => ({
        ...reportEpisode(task, prompts, episode),
        label,
        tokens: tokensOf(episode, run.config, tokenizer),
      })),
    ],
  };
}

/** The latest whole evaluation of its model by `r3 eval`, else what a quick start measured. */
function measurementOf(run: RunView): { results: Results | null; warnings: readonly string[] } {
  const unaudited =
    run.config['audited'] === false
      ? ['The audit before training was left out (--no-audit): nothing says that this set-up can learn.']
      : [];
  const { found, leftOut } = latestEvaluation(run.directory);
  if (found !== null) {
    const { file, config } = found;
    return {
      results: evaluationResults(file, evaluationOptions(config)),
      warnings: [...unaudited, ...leftOut, ...file.warnings],
    };
  }
  const quickstart = quickstartOf(run);
  return quickstart === null
    ? { results: null, warnings: [...unaudited, ...leftOut, ...runWarnings(run.metrics)] }
    : { results: quickstartResults(quickstart), warnings: [...leftOut, ...quickstart.warnings] };
}

interface FoundEvaluation {
  file: EvaluationFile;
  config: EvaluationConfig;
}

/**
 * `evaluations/NNN` of the highest number that is done, can be read and measured the run's own model; and a warning for
 * each later one that is left out.
 */
function latestEvaluation(directory: string): { found: FoundEvaluation | null; leftOut: string[] } {
  const folder = join(directory, 'evaluations');
  const leftOut: string[] = [];
  const paths = (existsSync(folder) ? readdirSync(folder) : [])
    .filter((name) => /^\d+$/.test(name))
    .toSorted((a, b) => Number(b) - Number(a))
    .map((name) => join(folder, name))
    .filter((candidate) => existsSync(join(candidate, 'summary.json')));
  for (const path of paths) {
    try {
      const found = {
        file: readSummary(join(path, 'summary.json')),
        config: parseEvaluationConfig(readEvaluationConfig(path), path),
      };
      if (measuresOwnModel(found.config, directory)) return { found, leftOut };
      leftOut.push(
        `An evaluation is left out: ${path} measured ${found.config.model.directory}, not the model of this run.`,
      );
    } catch (error) {
      if (!(error instanceof R3Error)) throw error;
      leftOut.push(`An evaluation is left out: ${error.message}`);
    }
  }
  return { found: null, leftOut };
}

/** Characters of a hash that are shown. */
const SHOWN_HASH = 12;

/** What an evaluation was made with, as the report compares it. */
function evaluationOptions(config: EvaluationConfig): Results['options'] {
  const { task, taskFile, prompts, problems, sampling, fixedText, start } = config;
  const { seeds, controls, engine, dtype, context } = config;
  return {
    task,
    taskFile: taskFile?.sha256.slice(0, SHOWN_HASH) ?? null,
    prompts,
    problems: problems.hash.slice(0, SHOWN_HASH),
    n: problems.count,
    ...sampling,
    fixedText,
    against: start === null ? null : (start.hash?.slice(0, SHOWN_HASH) ?? start.directory),
    seeds,
    controls,
    engine,
    dtype,
    context,
  };
}

/** What the report draws without asking whether it is there; the rest of our own file is as an evaluation wrote it. */
const measuredSchema = z.looseObject({
  directory: z.string(),
  sampled: z.array(z.looseObject({ firstTry: z.looseObject({}), secondTry: z.looseObject({}) })).min(1),
  greedy: z.looseObject({ firstTry: z.looseObject({}), secondTry: z.looseObject({}) }),
  overSeeds: z.looseObject({ rates: z.looseObject({}), lift: z.looseObject({}) }),
});
const summarySchema = z.looseObject({
  version: z.literal(1),
  n: z.int(),
  temperature: z.number(),
  seeds: z.array(z.int()).min(1),
  kernels: z.string(),
  model: measuredSchema,
  start: measuredSchema.nullable(),
  change: z.looseObject({ sampled: z.array(z.looseObject({})), greedy: z.looseObject({}) }).nullable(),
  warnings: z.array(z.string()),
});

/** Throws R3Error `bad-file` where the file is torn or no summary. */
function readSummary(path: string): EvaluationFile {
  const refuse = (why: string): R3Error =>
    new R3Error('store', 'bad-file', `${path}: ${why}; make it again with r3 eval --resume`);
  let summary: unknown;
  try {
    summary = parseJsonObject(readFileSync(path, 'utf8'));
  } catch (error) {
    throw refuse(messageOf(error));
  }
  const parsed = summarySchema.safeParse(summary);
  if (!parsed.success) throw refuse(explainIssue(parsed.error.issues, summary));
  return parsed.data as unknown as EvaluationFile;
}

interface Candidates {
  add(episode: Episode): void;
  helped(): Episode[];
  others(): Episode[];
}

/** The latest trained ones, one for each group and step, those first whose siblings fared most differently. */
function makeCandidates(): Candidates {
  const held = { helped: new Map<string, Episode>(), others: new Map<string, Episode>() };
  const strongest = (episodes: Map<string, Episode>): Episode[] =>
    [...episodes.values()].toSorted((a, b) => Math.abs(b.advantage ?? 0) - Math.abs(a.advantage ?? 0));
  return {
    add: (episode) => {
      if (episode.advantage === null) return;
      const latest = episode.reward !== null && episode.reward > 0 ? held.helped : held.others;
      const key = `${episode.step} ${episode.group}`;
      if (latest.has(key)) return;
      latest.set(key, episode);
      const oldest = latest.keys().next();
      if (latest.size > HELD && oldest.done !== true) latest.delete(oldest.value);
    },
    helped: () => strongest(held.helped),
    others: () => strongest(held.others),
  };
}

interface Example {
  episode: Episode;
  label: string;
}

/** One that helped, one that leaked, one that did not help, where the run has them. */
async function chooseExamples(candidates: Candidates, task: Task, prompts: Prompts): Promise<Example[]> {
  const helped: Episode[] = [];
  let leaked: Episode | undefined;
  for (const episode of candidates.helped()) {
    if (leaked === undefined && (await leaks(task, prompts, episode))) leaked = episode;
    else helped.push(episode);
  }
  const [first] = helped;
  const [other] = candidates.others();
  return [
    ...(first === undefined ? [] : [{ episode: first, label: 'in training, helped' }]),
    ...(leaked === undefined
      ? []
      : [{ episode: leaked, label: 'in training, leaked: the reflection holds a passing answer' }]),
    ...(other === undefined ? [] : [{ episode: other, label: 'in training, did not help' }]),
  ];
}

/** What cannot be judged does not count as a leak. */
async function leaks(task: Task, prompts: Prompts, { problem, reflection }: Episode): Promise<boolean> {
  if (reflection === null || task.answersIn === undefined) return false;
  for (const answer of task.answersIn(problem, reflection.text, prompts)) {
    try {
      if ((await task.verify(problem, answer, prompts)).ok) return true;
    } catch {
      return false;
    }
  }
  return false;
}

/** The turns of an episode with their token texts, and what of them was trained. */
function tokensOf(
  { attempt, reflection, retry }: Episode,
  config: RunConfig,
  tokenizer: Tokenizer | undefined,
): ReportEpisode['tokens'] {
  if (tokenizer === undefined) {
    return { turns: [], why: "the model's tokenizer is not where the run had it, so texts are shown whole" };
  }
  const trained = trainedTurns(config, reflection !== null);
  const turns: [Turn, Written | null][] = [
    ['attempt', reflection === null && retry === null ? attempt : null],
    ['reflection', reflection],
    ['retry', retry],
  ];
  return {
    turns: turns.flatMap(([turn, written]): TokenTurn[] =>
      written === null
        ? []
        : [
            {
              turn,
              trained: trained.has(turn),
              texts: tokenTexts(tokenizer, written.tokens, []),
              logprobs: written.logprobs,
              referenceLogprobs: written.referenceLogprobs,
            },
          ],
    ),
  };
}

/** Runs of the quick start and of earlier versions do not say: they train reflections. */
function trainedTurns({ train }: RunConfig, reflects: boolean): ReadonlySet<Turn> {
  const { method, trainTokens } = isObject(train) ? train : {};
  if (method === 'attempts' || method === 'rejection-sampling') return new Set(['attempt']);
  if (method === 'retries' || trainTokens === 'retry') return new Set(['retry']);
  if (trainTokens === 'both' || trainTokens === 'all') {
    return new Set(reflects ? ['reflection', 'retry'] : ['attempt']);
  }
  return new Set(['reflection']);
}

/** Of the model that the run made, else of the one that it began with. */
function findTokenizer(directory: string, { model, command }: RunConfig): Tokenizer | undefined {
  const named = isObject(model) ? model['directory'] : undefined;
  const folders = [
    join(directory, 'model'),
    ...(command === 'quickstart' ? [START_MODEL] : []),
    ...(typeof named === 'string' ? [named] : []),
  ];
  for (const folder of folders.filter((candidate) => existsSync(candidate))) {
    try {
      return loadTokenizer(folder);
    } catch (error) {
      // An adapter's folder has none, and a damaged one is no reason to have no report.
      if (!(error instanceof R3Error)) throw error;
    }
  }
  return undefined;
}

/** Kernels and threads as the engine describes them, and what the run noted of the machine and the versions. */
function environmentOf({ config: { kernels }, environment }: RunView): [label: string, value: string][] {
  return [
    ...(typeof kernels === 'string' ? [['kernels', kernels] as [string, string]] : []),
    ...Object.entries(stringsOf(environment)),
  ];
}

function stringsOf(value: unknown): Record<string, string> {
  if (!isObject(value)) return {};
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, text]) =>
      typeof text === 'string' || typeof text === 'number' ? [[name, String(text)]] : [],
    ),
  );
}

/**
 * Writes a run's metrics as a TensorBoard event file and returns its path. A step's time is that of the run's start,
 * as the file system has it, and the seconds of the steps so far.
 */
export function writeRunTensorboard(directory: string, target: string): string {
  const run = readRun(directory);
  const started = statSync(join(directory, 'config.json')).mtimeMs / 1000;
  const seconds = new Map<number, number>();
  const timings = join(directory, 'timings.jsonl');
  for (const row of existsSync(timings) ? readJsonl(timings, 'skip-torn') : []) {
    const { step, sample, train } = row as StepRow;
    seconds.set(step, Number(sample ?? 0) + Number(train ?? 0));
  }
  let wallTime = started;
  const rows = run.metrics.map(({ step, ...metrics }): TimedRow => {
    wallTime += seconds.get(step) ?? 0;
    return { step, wallTime, metrics };
  });
  return writeTensorboard(target, rows, started);
}
