/**
 * summary.json and a comparison of two evaluations as tables of texts, for the terminal, Markdown and pages alike.
 *
 * Percent and percentage points with 95% intervals; `–` where nothing is known. Reads what JSON leaves of NaN (null) as
 * unknown. Where there are several seeds, rates and lifts are means over them.
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

/** Everything that an evaluation says. Class counts, reflections and readings are of the first seed. */
export function evaluationTables(file: EvaluationFile): Table[] {
  const { model, start, change, temperature } = file;
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
      : [changeTable('the model minus the start model', change), ...readingTables(change)]),
    reflectionsTable(models),
    classesTable(models),
    costTable(models),
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

function readingTables({ writerByReader, kl, forcedBeginning }: ModelChange): Table[] {
  const [first] = writerByReader;
  if (first === undefined) return [];
  const row = (label: string, names: (keyof WriterByReader)[]): string[] => [
    label,
    ...names.map((name) => rateText(first[name])),
  ];
  return [
    {
      title: "who gains, on the start model's failures",
      heads: ['retries solved, %', 'read by start', 'read by trained'],
      rows: [
        row('written by start', ['startStart', 'startTrained']),
        row('written by trained', ['trainedStart', 'trainedTrained']),
      ],
    },
    {
      title: 'how far the model has moved',
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

function reflectionsTable(models: readonly [string, MeasuredModel][]): Table {
  const all = models.map(([, { sampled }]) => sampled[0]?.reflections);
  const row = (label: string, text: (measures: ReflectionMeasures) => string): string[] => [
    label,
    ...all.map((measures) => (measures === undefined ? UNKNOWN : text(measures))),
  ];
  const scripts = [...new Set(all.flatMap((measures) => Object.keys(measures?.scripts ?? {})))];
  const kinds = [...new Set(all.flatMap((measures) => Object.keys(measures?.kinds ?? {})))].toSorted();
  return {
    title: 'reflections on failed first tries',
    heads: ['', ...models.map(([name]) => name)],
    rows: [
      row('how many', ({ count }) => String(count)),
      row('tokens, mean', ({ tokens }) => number(tokens.mean, 1)),
      row('tokens, median', ({ tokens }) => number(tokens.median, 1)),
      row('cut off at the limit, %', ({ cutOff }) => percent(cutOff)),
      row('hold a passing answer (leak), %', ({ leaked }) => rateText(leaked)),
      row('repeated 4-grams, %', ({ repetition }) => percent(repetition)),
      ...scripts.map((script) =>
        row(`letters in ${script}, %`, (measures) => percent(measures.scripts[script] ?? 0)),
      ),
      row('more than one script, %', ({ mixedScripts }) => percent(mixedScripts)),
      ...kinds.map((kind) => row(`kind: ${kind}, %`, (measures) => percent(measures.kinds[kind] ?? 0))),
      ...(kinds.length === 0
        ? []
        : [
            row('with a true hint, %', ({ trueHints }) => percent(trueHints)),
            row('true, of those that hint, %', ({ trueOfHints }) => percent(trueOfHints)),
          ]),
    ],
  };
}

function classesTable(models: readonly [string, MeasuredModel][]): Table {
  const lists = models.flatMap(([name, { sampled }]) => {
    const { firstTry = {}, secondTry = {} } = sampled[0]?.classes ?? {};
    return [
      { head: `${name}: first try`, counts: firstTry },
      { head: 'second try', counts: secondTry },
    ];
  });
  const names = [...new Set(lists.flatMap(({ counts }) => Object.keys(counts)))].toSorted();
  return {
    title: 'how tries ended, counts',
    heads: ['', ...lists.map(({ head }) => head)],
    rows: names.map((name) => [name, ...lists.map(({ counts }) => String(counts[name] ?? 0))]),
  };
}

function costTable(models: readonly [string, MeasuredModel][]): Table {
  const row = (label: string, text: (measured: MeasurementSummary) => string): string[] => [
    label,
    ...models.map(([, { sampled }]) => (sampled[0] === undefined ? UNKNOWN : text(sampled[0]))),
  ];
  const ks = [
    ...new Set(models.flatMap(([, { sampled }]) => sampled[0]?.passAtK.map(({ k }) => k) ?? [])),
  ].toSorted((a, b) => a - b);
  return {
    title: 'cost, and attempts alone',
    heads: ['', ...models.map(([name]) => name)],
    rows: [
      row('tokens of a first try', ({ meanTokens }) => number(meanTokens.attempt, 1)),
      row('tokens of both tries', ({ meanTokens }) => number(meanTokens.twoTries, 1)),
      row('attempts at equal tokens', ({ attemptsAtEqualTokens }) => String(attemptsAtEqualTokens)),
      ...ks.map((k) =>
        row(`pass@${k}, %`, ({ passAtK }) => percent(passAtK.find((point) => point.k === k)?.rate)),
      ),
    ],
  };
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
