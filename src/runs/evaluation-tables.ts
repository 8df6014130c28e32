/**
 * summary.json and a comparison of two evaluations as tables of texts, for the terminal, Markdown and pages alike.
 *
 * Percent and percentage points with 95% intervals; `–` where nothing is known. Reads what JSON leaves of NaN (null) as
 * unknown. Where there are several seeds, numbers are means over them, but for who gains and how far the model has moved.
 */
import type { ColumnName, ControlName, WriterByReader } from '../method/controls.ts';
import type {
  ColumnDifferences,
  EvaluationFile,
  MeasuredModel,
  MeasurementSummary,
  ModelChange,
} from '../method/evaluation-summary.ts';
import type { ReflectionMeasures } from '../method/reflection-measures.ts';
import type { PairedDifference, Rate, Spread } from '../method/statistics.ts';
import { rateRows } from './result-rows.ts';

export interface Table {
  title: string;
  heads: string[];
  rows: string[][];
}

const UNKNOWN = '–';

/** Everything that an evaluation says. Readings are of the first seed, and their titles say so where there are more. */
export function evaluationTables(file: EvaluationFile): Table[] {
  const { model, start, change, temperature, seeds } = file;
  const several = seeds.length > 1 ? `, mean over ${seeds.length} seeds` : '';
  const models: [name: string, model: MeasuredModel][] =
    start === null
      ? [['the model', model]]
      : [
          ['the model', model],
          ['the start model', start],
        ];
  return [
    ...models.flatMap(([name, measured]) => [
      ratesTable(`${name}, temperature ${temperature}`, measured),
      measurementTable(`${name}, greedy`, measured.greedy),
    ]),
    ...(change === null
      ? []
      : [changeTable('the model minus the start model', change), ...readingTables(change, seeds)]),
    reflectionsTable(`reflections on failed first tries${several}`, models),
    classesTable(`how tries ended, counts${several}`, models),
    costTable(`cost, and attempts alone${several}`, models),
  ].filter(({ rows }) => rows.length > 0);
}

/** Of one seed as it is, of several the means over them. */
function ratesTable(title: string, { sampled, overSeeds }: MeasuredModel): Table {
  const [first] = sampled;
  if (first !== undefined && sampled.length === 1) return measurementTable(title, first);
  return {
    title: `${title}, ${sampled.length} seeds`,
    heads: ['solved, %', 'mean (95%)', 'min–max', 's.e.', '2nd try minus it'],
    rows: rateRows(sampled).map(({ name, label }) => {
      const rate = overSeeds.rates[name];
      return [
        label,
        spreadText(rate, percent),
        rate === undefined ? UNKNOWN : `${percent(rate.min)}–${percent(rate.max)}`,
        percent(rate?.standardError),
        isControl(name) ? spreadText(overSeeds.lift[name], points) : '',
      ];
    }),
  };
}

function measurementTable(title: string, measured: MeasurementSummary): Table {
  return {
    title,
    heads: ['solved, %', 'rate (95%)', 'rescues', '2nd try minus it', 'p'],
    rows: rateRows([measured]).map(({ name, label }) => {
      const lift = isControl(name) ? measured.lift[name] : undefined;
      return [
        label,
        rateText(measured[name]),
        name in measured.rescue ? percent(measured.rescue[name as keyof typeof measured.rescue]?.rate) : '',
        lift === undefined ? '' : differenceText(lift),
        lift === undefined ? '' : pText(lift),
      ];
    }),
  };
}

/** Also of a comparison of two evaluations. */
export function changeTable(
  title: string,
  { sampled, greedy, overSeeds }: Pick<ModelChange, 'sampled' | 'greedy' | 'overSeeds'>,
): Table {
  const [first = {}] = sampled;
  const one = sampled.length === 1;
  const names = rateRows([...sampled, greedy].map(counted));
  return {
    title,
    heads: ['points', one ? 'sampled' : `sampled, ${sampled.length} seeds`, 'p', 'greedy', 'p'],
    rows: names.map(({ name, label }) => [
      label,
      one ? differenceText(first[name]) : spreadText(overSeeds[name], points),
      one ? pText(first[name]) : '',
      differenceText(greedy[name]),
      pText(greedy[name]),
    ]),
  };
}

/** What `rateRows` asks: which columns are known. */
function counted(differences: ColumnDifferences): Partial<Record<ColumnName, Rate>> {
  return Object.fromEntries(
    Object.entries(differences).map(([name, { diff, low, high, n }]) => [name, { rate: diff, low, high, n }]),
  );
}

function readingTables(
  { writerByReader, kl, forcedBeginning }: ModelChange,
  seeds: readonly number[],
): Table[] {
  const ofSeed = seeds.length > 1 ? `, seed ${seeds[0]}` : '';
  const [first] = writerByReader;
  if (first === undefined) return [];
  const row = (label: string, names: (keyof WriterByReader)[]): string[] => [
    label,
    ...names.map((name) => rateText(first[name])),
  ];
  return [
    {
      title: `who gains, on the start model's failures${ofSeed}`,
      heads: ['retries solved, %', 'read by start', 'read by trained'],
      rows: [
        row('written by start', ['startStart', 'startTrained']),
        row('written by trained', ['trainedStart', 'trainedTrained']),
      ],
    },
    {
      title: `how far the model has moved${ofSeed}`,
      heads: ['its reflections', ''],
      rows: [
        [
          'written by trained minus by start, read by start, points',
          `${differenceText(first.writtenByTrained)}, p ${pText(first.writtenByTrained)}`,
        ],
        ['KL to the start model, nats per token', number(kl[0], 3)],
        ['most reflections begin with', JSON.stringify(forcedBeginning[0] ?? '')],
      ],
    },
  ];
}

type Models = readonly [name: string, model: MeasuredModel][];

/** A row with a number of each model: the mean over its seeds of what is known. */
function meansRow(
  label: string,
  models: Models,
  of: (measured: MeasurementSummary) => number | null | undefined,
  text: (value: number) => string,
): string[] {
  return [label, ...models.map(([, { sampled }]) => text(meanKnown(sampled.map(of))))];
}

function meanKnown(values: readonly (number | null | undefined)[]): number {
  const known = values.filter((value) => typeof value === 'number' && Number.isFinite(value)) as number[];
  return known.reduce((sum, value) => sum + value, 0) / known.length;
}

function reflectionsTable(title: string, models: Models): Table {
  const row = (
    label: string,
    of: (measures: ReflectionMeasures) => number | null | undefined,
    text: (value: number) => string = percent,
  ): string[] => meansRow(label, models, ({ reflections }) => of(reflections), text);
  const all = models.flatMap(([, { sampled }]) => sampled.map(({ reflections }) => reflections));
  const scripts = [...new Set(all.flatMap((measures) => Object.keys(measures.scripts)))];
  const kinds = [...new Set(all.flatMap((measures) => Object.keys(measures.kinds)))].toSorted();
  return {
    title,
    heads: ['', ...models.map(([name]) => name)],
    rows: [
      row('how many', ({ count }) => count, countText),
      row('tokens, mean', ({ tokens }) => tokens.mean, oneDigit),
      row('tokens, median', ({ tokens }) => tokens.median, oneDigit),
      row('cut off at the limit, %', ({ cutOff }) => cutOff),
      leaksRow(models),
      row('repeated 4-grams, %', ({ repetition }) => repetition),
      ...scripts.map((script) =>
        row(`letters in ${script}, %`, (measures) => shareOf(measures.scripts, script)),
      ),
      row('more than one script, %', ({ mixedScripts }) => mixedScripts),
      ...kinds.map((kind) => row(`kind: ${kind}, %`, (measures) => shareOf(measures.kinds, kind))),
      ...(kinds.length === 0
        ? []
        : [
            row('with a true hint, %', ({ trueHints }) => trueHints),
            row('true, of those that hint, %', ({ trueOfHints }) => trueOfHints),
          ]),
    ],
  };
}

/** Unknown where there is nothing to have a share of, as in a seed without reflections. */
function shareOf(shares: Readonly<Record<string, number>>, name: string): number | undefined {
  return Object.keys(shares).length === 0 ? undefined : (shares[name] ?? 0);
}

/** An interval of one seed is none of a mean. */
function leaksRow(models: Models): string[] {
  const texts = models.map(([, { sampled }]) => {
    const [only, ...more] = sampled.map(({ reflections }) => reflections.leaked);
    if (only === undefined) return UNKNOWN;
    return more.length === 0 ? rateText(only) : percent(meanKnown([only, ...more].map(({ rate }) => rate)));
  });
  return ['hold a passing answer (leak), %', ...texts];
}

function classesTable(title: string, models: Models): Table {
  const heads = models.flatMap(([name]) => [`${name}: first try`, 'second try']);
  const lists = models.flatMap(([, { sampled }]) =>
    (['firstTry', 'secondTry'] as const).map((which) => sampled.map(({ classes }) => classes[which])),
  );
  const names = [...new Set(lists.flat().flatMap((counts) => Object.keys(counts)))].toSorted();
  return {
    title,
    heads: ['', ...heads],
    rows: names.map((name) => [
      name,
      ...lists.map((counts_S) => countText(meanKnown(counts_S.map((counts) => counts[name] ?? 0)))),
    ]),
  };
}

function costTable(title: string, models: Models): Table {
  const row = (
    label: string,
    of: (measured: MeasurementSummary) => number | null | undefined,
    text: (value: number) => string,
  ): string[] => meansRow(label, models, of, text);
  const points_S = models.flatMap(([, { sampled }]) => sampled.map(({ passAtK }) => passAtK));
  const ks = [...new Set(points_S.flat().map(({ k }) => k))].toSorted((a, b) => a - b);
  return {
    title,
    heads: ['', ...models.map(([name]) => name)],
    rows: [
      row('tokens of a first try', ({ meanTokens }) => meanTokens.attempt, oneDigit),
      row('tokens of both tries', ({ meanTokens }) => meanTokens.twoTries, oneDigit),
      row('attempts at equal tokens', ({ attemptsAtEqualTokens }) => attemptsAtEqualTokens, countText),
      ...ks.map((k) =>
        row(`pass@${k}, %`, ({ passAtK }) => passAtK.find((point) => point.k === k)?.rate, percent),
      ),
    ],
  };
}

function oneDigit(value: number): string {
  return number(value, 1);
}

/** A count as it is, a mean of counts with a digit. */
function countText(value: number): string {
  return Number.isInteger(value) ? String(value) : number(value, 1);
}

function isControl(name: ColumnName): name is ControlName {
  return name !== 'firstTry' && name !== 'secondTry';
}

function rateText({ rate, low, high, n }: Rate): string {
  return n === 0 ? UNKNOWN : `${percent(rate)} (${percent(low)}–${percent(high)})`;
}

function differenceText(difference: PairedDifference | undefined): string {
  if (difference === undefined || difference.n === 0) return UNKNOWN;
  const { diff, low, high } = difference;
  return `${points(diff)} (${points(low)} to ${points(high)})`;
}

function spreadText(spread: Spread | undefined, text: (share: number) => string): string {
  if (spread === undefined) return UNKNOWN;
  const between = text === points ? ' to ' : '–';
  return `${text(spread.mean)} (${text(spread.low)}${between}${text(spread.high)})`;
}

function pText(difference: PairedDifference | undefined): string {
  if (difference === undefined || difference.n === 0) return UNKNOWN;
  const { p } = difference.mcnemar;
  return p < 0.001 ? '<0.001' : p.toFixed(3);
}

function points(share: number): string {
  const text = percent(share);
  return share > 0 && text !== UNKNOWN ? `+${text}` : text;
}

function percent(share: number | null | undefined): string {
  return number(share === null || share === undefined ? undefined : 100 * share, 1);
}

function number(value: number | null | undefined, digits: number): string {
  return typeof value === 'number' && Number.isFinite(value) ? value.toFixed(digits) : UNKNOWN;
}
