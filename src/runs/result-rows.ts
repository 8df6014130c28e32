/**
 * What an evaluation says, as labelled rows: the one list that the terminal's tables and the page's are made from, so
 * that neither says what the other leaves out. How a number looks is up to them.
 */
import type { BeforeAfter, ChangeInterval, ColumnName, EvaluationSummary } from '../method/controls.ts';
import type { ReflectionProfile } from '../method/profile.ts';
import type { Rate } from '../method/statistics.ts';

export interface RateRow {
  name: ColumnName;
  label: string;
  /** What the second try must beat. */
  control: boolean;
}

const LABELS: Readonly<Record<ColumnName, string>> = {
  firstTry: 'first try',
  secondTry: 'second try, after its own reflection',
  secondTryWithoutReflection: 'second try, no reflection',
  afterFixedText: 'second try, after a fixed text',
  afterForeignReflection: "second try, another's reflection",
  afterEmptyReflection: 'second try, empty reflection',
  afterForcedBeginning: 'second try, forced beginning',
  twoIndependent: 'two independent tries',
  independentAtEqualTokens: 'independent tries at equal tokens',
};

/** The columns of an evaluation, in the order of display. */
const RATES: readonly RateRow[] = (Object.keys(LABELS) as ColumnName[]).map((name) => ({
  name,
  label: LABELS[name],
  control: name !== 'firstTry' && name !== 'secondTry',
}));

/** Rates of problems solved that at least one of the summaries has. Those of earlier versions have fewer. */
export function rateRows(summaries: readonly Readonly<Partial<Record<ColumnName, Rate>>>[]): RateRow[] {
  return RATES.filter(({ name }) => summaries.some((summary) => (summary[name]?.n ?? 0) > 0));
}

/** What of a summary is about cost. Attempts at equal tokens are told where they were made, or are a mean over seeds. */
export type Costs = Pick<EvaluationSummary, 'attemptsAtEqualTokens' | 'meanTokens'> &
  Partial<Pick<EvaluationSummary, 'independentAtEqualTokens'>>;

/** What the tries cost, one text for each summary. */
export function costRows(summaries: readonly Costs[]): [label: string, values: string[]][] {
  const row = (label: string, text: (summary: Costs) => string): [string, string[]] => [
    label,
    summaries.map(text),
  ];
  return [
    row('how many tries those are', ({ attemptsAtEqualTokens, independentAtEqualTokens }) =>
      independentAtEqualTokens?.n === 0 ? '–' : String(attemptsAtEqualTokens),
    ),
    row('tokens of a first try', ({ meanTokens }) => tokensText(meanTokens.attempt)),
    row('tokens of both tries', ({ meanTokens }) => tokensText(meanTokens.twoTries)),
  ];
}

/** The four evaluations, whole: before, after, greedy before, greedy after. */
export function summariesOf({
  before,
  after,
  greedy,
  details,
}: BeforeAfter): [EvaluationSummary, EvaluationSummary, EvaluationSummary, EvaluationSummary] {
  return [
    { ...before, ...details.before },
    { ...after, ...details.after },
    { ...greedy.before, ...details.greedy.before },
    { ...greedy.after, ...details.greedy.after },
  ];
}

/** The differences that training is about. */
export function changeRows({ change, details }: BeforeAfter): [label: string, difference: ChangeInterval][] {
  return [
    ['second try, after minus before training', change.secondTry],
    ['the same, greedy', change.greedySecondTry],
    ['first try, after minus before', change.firstTry],
    ['first try, greedy', details.greedyFirstTry],
    ['retry, written by trained minus by start, read by start', change.writtenByTrained],
    ['second try minus two independent tries, after', change.overTwoIndependent],
    ['second try minus after a fixed text, after', change.overFixedText],
  ];
}

/** What training changed about the reflections themselves. */
export interface ReflectionChange {
  profile: { before: ReflectionProfile; after: ReflectionProfile };
  /** Means over the last steps of training, where this is known. */
  lastSteps?: { kl: number; withoutSignal: number };
  /** On the reflections of `profile.after`, nats per token, where this was measured. */
  kl?: number;
  /** What the start model's reflections were forced to begin with. */
  forcedBeginning: string;
}

/** A dash for what was not measured; a file has null in place of NaN. */
function klText(kl: number | null): string {
  return kl === null || Number.isNaN(kl) ? '–' : kl.toFixed(3);
}

type ReflectionRow = [label: string, before: string, after: string];

/** A task that tells no kinds tells no hints either: both are then left out. */
export function reflectionRows({
  profile: { before, after },
  lastSteps,
  kl,
}: ReflectionChange): ReflectionRow[] {
  const kinds = [...new Set([...Object.keys(before.kinds), ...Object.keys(after.kinds)])].toSorted();
  return [
    ...kinds.map((kind): ReflectionRow => [
      kind,
      percent(before.kinds[kind] ?? 0),
      percent(after.kinds[kind] ?? 0),
    ]),
    ...(kinds.length === 0
      ? []
      : ([
          ['with a true hint', percent(before.trueHints), percent(after.trueHints)],
          ['true, of those that hint', percent(before.trueOfHints), percent(after.trueOfHints)],
        ] satisfies ReflectionRow[])),
    ['mean length, tokens', before.meanTokens.toFixed(1), after.meanTokens.toFixed(1)],
    ...(kl === undefined
      ? []
      : ([['KL to the start model, nats per token', '0', klText(kl)]] satisfies ReflectionRow[])),
    ...(lastSteps === undefined
      ? []
      : ([
          ['KL to the start model, nats per token, last steps', '0', klText(lastSteps.kl)],
          ['groups without signal, last steps', '', percent(lastSteps.withoutSignal)],
        ] satisfies ReflectionRow[])),
  ];
}

export function forcedBeginningNote({ forcedBeginning }: ReflectionChange): string {
  return `The forced beginning, of the start model's reflections, is what most reflections of the trained model begin with: ${forcedBeginning}`;
}

function tokensText(tokens: number): string {
  return Number.isFinite(tokens) ? tokens.toFixed(1) : '–';
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
