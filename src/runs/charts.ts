/**
 * Charts as SVG text, by hand: stacked shares and lines over training steps.
 *
 * A chart is drawn in the colours of the page around it (CSS variables, with the light ones as fallback);
 * `standalone` adds the colours, a background and the namespace, for a picture that stands in a README.
 * Every chart has a title and a description for those who do not see it. No script, no fonts, no files.
 */
import { printable } from '../lib/printable.ts';

/** Where a value is at a step. */
export interface Point {
  step: number;
  value: number;
}

export interface Series {
  name: string;
  points: readonly Point[];
}

export interface ChartText {
  /** Read aloud in place of the picture, and unique on the page: ids are made from it. */
  title: string;
  description: string;
}

/** Paint by role: c0 to c2 draw the eye, c3 to c5 stand back. */
const LIGHT = {
  paper: '#fcfcfb',
  ink: '#1c2127',
  muted: '#5a636e',
  rule: '#dfe2e6',
  c0: '#1d5f8f',
  c1: '#3f9a94',
  c2: '#d3a24c',
  c3: '#8f9bb0',
  c4: '#bcc4d0',
  c5: '#d9d3c8',
};
const DARK: typeof LIGHT = {
  paper: '#14171b',
  ink: '#e4e7eb',
  muted: '#9da6b1',
  rule: '#2c323a',
  c0: '#4a9bd3',
  c1: '#3aa89c',
  c2: '#cf9d49',
  c3: '#76829a',
  c4: '#525c6e',
  c5: '#6d665c',
};
type Colour = keyof typeof LIGHT;
const LAYERS: readonly Colour[] = ['c0', 'c1', 'c2', 'c3', 'c4', 'c5'];

/**
 * A colour for each name, by its text alone, so that a name has the same colour in every picture. Where two would have
 * the same, the one later in the alphabet takes the next that is free. At most as many names as colours.
 */
export function coloursByName(names: readonly string[]): Map<string, Colour> {
  const taken = new Set<Colour>();
  const colours = new Map<string, Colour>();
  for (const name of names.toSorted()) {
    const wanted = hashText(name) % LAYERS.length;
    const colour = [...LAYERS.slice(wanted), ...LAYERS.slice(0, wanted)].find((one) => !taken.has(one));
    if (colour === undefined) break;
    taken.add(colour);
    colours.set(name, colour);
  }
  return colours;
}

/** FNV-1a, its high bits. From this offset the kinds of the Countdown task get six colours, searches those in front. */
function hashText(text: string): number {
  let hash = 47926;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 16;
}

/** The colours as CSS: custom properties of `selector`, light and dark. */
export function colourStyle(selector: string): string {
  const list = (colours: typeof LIGHT): string =>
    Object.entries(colours)
      .map(([name, value]) => `--${name}:${value}`)
      .join(';');
  return `${selector}{${list(LIGHT)}}@media (prefers-color-scheme:dark){${selector}{${list(DARK)}}}`;
}

export function paint(colour: Colour): string {
  return `var(--${colour},${LIGHT[colour]})`;
}

/** Text for an element or a quoted attribute. */
export function escapeText(text: string): string {
  return printable(text)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

/** A centred mean over `width` steps (odd), over what there is of them at the ends. */
export function smooth(points: readonly Point[], width: number): Point[] {
  const half = (width - 1) / 2;
  return points.map(({ step }, i) => {
    // As many on either side, so that a slope stays where it is.
    const reach = Math.min(half, i, points.length - 1 - i);
    const near = points.slice(i - reach, i + reach + 1);
    return { step, value: near.reduce((sum, point) => sum + point.value, 0) / near.length };
  });
}

/** The mean of about a twentieth of the run: wide enough to read, narrow enough to show when something began. */
export function smoothingWidth(steps: number): number {
  return 2 * Math.round(steps / 40) + 1;
}

interface Frame {
  width: number;
  height: number;
  left: number;
  right: number;
  top: number;
  bottom: number;
  steps: readonly [number, number];
  values: readonly [number, number];
}

function x(frame: Frame, step: number): number {
  const [first, last] = frame.steps;
  const span = frame.width - frame.left - frame.right;
  return frame.left + (last === first ? 0.5 : (step - first) / (last - first)) * span;
}

function y(frame: Frame, value: number): number {
  const [low, high] = frame.values;
  const span = frame.height - frame.top - frame.bottom;
  return frame.height - frame.bottom - ((value - low) / (high - low)) * span;
}

/** Round values from `low` to `high`, about `count` of them. */
export function niceTicks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].map((m) => m * power).find((candidate) => candidate >= rough * 0.999) ?? rough;
  const ticks: number[] = [];
  for (let i = Math.ceil(low / unit - 1e-9); i * unit <= high + unit * 1e-9; i++)
    ticks.push(Number((i * unit).toPrecision(12)));
  return ticks;
}

/** Moves positions apart to at least `gap`, in their order, within [low, high]. */
export function spread(positions: readonly number[], gap: number, low: number, high: number): number[] {
  const order = positions.map((_, i) => i).toSorted((a, b) => positions[a]! - positions[b]!);
  const placed = [...positions];
  let floor = low;
  for (const i of order) floor = (placed[i] = Math.max(placed[i]!, floor)) + gap;
  let ceiling = high;
  for (const i of order.toReversed()) ceiling = (placed[i] = Math.min(placed[i]!, ceiling)) - gap;
  return placed;
}

/** Between the middle of the last tick's text and that of the one before. */
const TICK_GAP = 46;

function valueAxis(frame: Frame, format: (value: number) => string): string {
  const end = frame.width - frame.right;
  const parts = niceTicks(...frame.values, 4).map((value) => {
    const at = y(frame, value).toFixed(1);
    return (
      `<line x1="${frame.left}" x2="${end}" y1="${at}" y2="${at}" stroke="${paint('rule')}"/>` +
      `<text x="${frame.left - 8}" y="${at}" dy=".35em" text-anchor="end" fill="${paint('muted')}">${format(value)}</text>`
    );
  });
  return parts.join('');
}

function axes(frame: Frame, format: (value: number) => string): string {
  const parts = [valueAxis(frame, format)];
  const bottom = frame.height - frame.bottom;
  const last = frame.steps[1];
  const round = niceTicks(...frame.steps, frame.width > 600 ? 8 : 5).filter(Number.isInteger);
  // The last step has a tick; round ones stand where they do not touch it.
  const ticks = [...round.filter((step) => x(frame, last) - x(frame, step) >= TICK_GAP), last];
  for (const [i, step] of ticks.entries()) {
    const text = i === ticks.length - 1 ? `step ${step}` : String(step);
    const at = x(frame, step).toFixed(1);
    parts.push(
      `<text x="${at}" y="${bottom + 19}" text-anchor="middle" fill="${paint('muted')}">${text}</text>`,
    );
  }
  return parts.join('');
}

function label(frame: Frame, at: number, colour: Colour, name: string, value: string): string {
  const left = frame.width - frame.right + 10;
  return (
    `<rect x="${left}" y="${(at - 5).toFixed(1)}" width="10" height="10" rx="2" fill="${paint(colour)}"/>` +
    `<text x="${left + 16}" y="${at.toFixed(1)}" dy=".35em" fill="${paint('ink')}">${escapeText(name)}` +
    `<tspan dx="5" fill="${paint('muted')}">${value}</tspan></text>`
  );
}

/** `suffix`: of the ids, where a page has a chart twice. */
function svg(frame: Frame, text: ChartText, body: string, standalone: boolean, suffix = ''): string {
  const id = text.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-') + suffix;
  const own = standalone
    ? ` xmlns="http://www.w3.org/2000/svg" width="${frame.width}" height="${frame.height}"`
    : '';
  const ground = standalone
    ? `<style>${colourStyle('svg')}</style><rect width="100%" height="100%" rx="6" fill="${paint('paper')}"/>`
    : '';
  return (
    `<svg${own} viewBox="0 0 ${frame.width} ${frame.height}" role="img" aria-labelledby="${id}-t ${id}-d"` +
    ` font-family="system-ui,-apple-system,'Segoe UI',sans-serif" font-size="13">` +
    `<title id="${id}-t">${escapeText(text.title)}</title><desc id="${id}-d">${escapeText(text.description)}</desc>` +
    `${ground}${body}</svg>`
  );
}

/**
 * Shares that add up to at most 1 as layers over steps. The layer that grew most lies at the bottom, so that its
 * growth is read from the axis. All series have the same steps; at most six layers. `narrow`: for a small screen, on
 * which a wide picture's text would be too small to read.
 */
export function stackedChart(
  series: readonly Series[],
  text: ChartText,
  { standalone = false, narrow = false }: { standalone?: boolean; narrow?: boolean } = {},
): string {
  const width = smoothingWidth(series[0]?.points.length ?? 0);
  const layers = series
    .map(({ name, points }) => ({ name, points: smooth(points, width) }))
    .toSorted((a, b) => growth(b.points) - growth(a.points));
  const frame: Frame = {
    width: narrow ? 400 : 920,
    height: narrow ? 300 : 340,
    left: narrow ? 44 : 54,
    right: narrow ? 146 : 170,
    top: 16,
    bottom: 34,
    steps: extent(series.flatMap(({ points }) => points.map(({ step }) => step))),
    values: [0, 1],
  };
  const colours = coloursByName(layers.map(({ name }) => name));
  const colourOf = (i: number): Colour => colours.get(layers[i]?.name ?? '') ?? layerColour(i);
  const steps = layers[0]?.points ?? [];
  let floor = steps.map(() => 0);
  const areas: string[] = [];
  const middles: number[] = [];
  for (const [i, layer] of layers.entries()) {
    const ceiling = floor.map((low, s) => low + layer.points[s]!.value);
    const corner = (values: readonly number[], s: number): string =>
      `${x(frame, steps[s]!.step).toFixed(1)} ${y(frame, values[s]!).toFixed(1)}`;
    const forth = steps.map((_, s) => corner(ceiling, s));
    const back = steps.map((_, s) => corner(floor, s)).toReversed();
    areas.push(
      `<path d="M${forth.join('L')}L${back.join('L')}Z" fill="${paint(colourOf(i))}" stroke="${paint('paper')}" stroke-width="1"/>`,
    );
    middles.push(y(frame, (floor.at(-1)! + ceiling.at(-1)!) / 2));
    floor = ceiling;
  }
  const places = spread(middles, 20, frame.top + 6, frame.height - frame.bottom - 6);
  const labels = layers.map(({ name, points }, i) =>
    label(frame, places[i]!, colourOf(i), name, percent(points.at(-1)!.value)),
  );
  const body = areas.join('') + axes(frame, percent) + labels.join('');
  return svg(frame, text, body, standalone, narrow ? '-narrow' : '');
}

export interface LineOptions {
  /** The axis; default: from 0 to what the values need. */
  values?: readonly [number, number];
  format: (value: number) => string;
}

/** Lines over steps: each step faint, the centred mean in full. From the seventh on lines are dashed. */
export function lineChart(series: readonly Series[], text: ChartText, options: LineOptions): string {
  const points = series.flatMap((line) => line.points);
  const [lowest, highest] = extent([0, ...points.map(({ value }) => value)]);
  const frame: Frame = {
    width: 450,
    height: 220,
    left: 48,
    right: series.length > 1 ? 128 : 62,
    top: 14,
    bottom: 34,
    steps: extent(points.map(({ step }) => step)),
    values: options.values ?? [lowest * 1.08, highest > 0 || lowest < 0 ? highest * 1.08 : 1],
  };
  const room = frame.height - frame.top - frame.bottom;
  const draw = (line: readonly Point[]): string =>
    line.map(({ step, value }) => `${x(frame, step).toFixed(1)} ${y(frame, value).toFixed(1)}`).join('L');
  const smoothed = series.map((line) => smooth(line.points, smoothingWidth(line.points.length)));
  const places = spread(
    smoothed.map((line) => y(frame, line.at(-1)?.value ?? 0)),
    Math.min(18, room / series.length),
    frame.top + 4,
    frame.height - frame.bottom - 4,
  );
  const stroke = (line: readonly Point[], i: number, more: string): string => {
    const dashes = i < LAYERS.length ? '' : ' stroke-dasharray="5 3"';
    return `<path d="M${draw(line)}" fill="none" stroke="${paint(layerColour(i))}" stroke-linejoin="round"${dashes} ${more}/>`;
  };
  const body = series.flatMap((line, i) => {
    const last = smoothed[i]!.at(-1);
    if (last === undefined) return [];
    const name =
      series.length > 1
        ? label(frame, places[i]!, layerColour(i), line.name, options.format(last.value))
        : `<text x="${frame.width - frame.right + 8}" y="${places[i]!.toFixed(1)}" dy=".35em" fill="${paint('ink')}">${options.format(last.value)}</text>`;
    return [stroke(line.points, i, 'stroke-opacity=".3"'), stroke(smoothed[i]!, i, 'stroke-width="2"'), name];
  });
  return svg(frame, text, axes(frame, options.format) + body.join(''), false);
}

/** Bars of a histogram, about. */
const BARS = 24;

/** Two distributions of whole numbers over the same bars, as shares: the first as an outline, the second filled. */
export function histogram([before, after]: readonly [HistogramSide, HistogramSide], text: ChartText): string {
  const all = [...before.values, ...after.values];
  const highest = extent([...all, 0])[1];
  const [, second = 1] = niceTicks(0, Math.max(highest, 1), BARS);
  const width = Math.max(1, Math.ceil(second));
  const count = Math.floor(highest / width) + 1;
  const sharesOf = ({ values }: HistogramSide): number[] => {
    const shares = Array.from({ length: count }, () => 0);
    for (const value of values) shares[Math.floor(value / width)]! += 1 / values.length;
    return shares;
  };
  const sides = [sharesOf(before), sharesOf(after)] as const;
  const frame: Frame = {
    width: 450,
    height: 220,
    left: 48,
    right: 12,
    top: 30,
    bottom: 34,
    steps: [0, count * width],
    values: [0, Math.max(extent(sides.flat())[1] * 1.05, 0.01)],
  };
  const bars = (shares: readonly number[], look: string): string =>
    `<path d="M${x(frame, 0).toFixed(1)} ${y(frame, 0).toFixed(1)}${shares
      .map((share, i) => {
        const top = y(frame, share).toFixed(1);
        return `V${top}H${x(frame, (i + 1) * width).toFixed(1)}`;
      })
      .join('')}V${y(frame, 0).toFixed(1)}Z" ${look}/>`;
  const ticks = niceTicks(0, count * width, 5).map(
    (value) =>
      `<text x="${x(frame, value).toFixed(1)}" y="${frame.height - frame.bottom + 19}" text-anchor="middle" fill="${paint('muted')}">${value}</text>`,
  );
  const legend = [before, after].map(({ name }, i) => {
    const left = frame.left + i * 150;
    const look =
      i === 0
        ? `fill="none" stroke="${paint('ink')}"`
        : `fill="${paint('c0')}" fill-opacity=".45" stroke="${paint('c0')}"`;
    return `<rect x="${left}" y="6" width="11" height="11" ${look}/><text x="${left + 17}" y="12" dy=".35em" fill="${paint('ink')}">${escapeText(name)}</text>`;
  });
  const body =
    valueAxis(frame, percent) +
    ticks.join('') +
    bars(sides[1], `fill="${paint('c0')}" fill-opacity=".45" stroke="${paint('c0')}"`) +
    bars(sides[0], `fill="none" stroke="${paint('ink')}" stroke-width="1.3"`) +
    legend.join('');
  return svg(frame, text, body, false);
}

export interface HistogramSide {
  name: string;
  values: readonly number[];
}

/** A value with its interval, for `intervalMarks`. */
export interface Interval {
  value: number;
  low: number;
  high: number;
}

function markX(value: number): string {
  return (6 + value * 188).toFixed(1);
}

/** Before (hollow) and after (filled) with their intervals on one 0-to-1 line. Decoration: the table has the numbers. */
export function intervalMarks(before: Interval, after: Interval): string {
  const mark = ({ value, low, high }: Interval, row: number, filled: boolean): string =>
    Number.isFinite(value)
      ? `<line x1="${markX(low)}" x2="${markX(high)}" y1="${row}" y2="${row}" stroke="${paint(filled ? 'c0' : 'muted')}" stroke-width="1.5"/>` +
        `<circle cx="${markX(value)}" cy="${row}" r="3.5" fill="${filled ? paint('c0') : paint('paper')}" stroke="${paint(filled ? 'c0' : 'muted')}" stroke-width="1.5"/>`
      : '';
  const rules = [0, 0.5, 1].map(
    (value) => `<line x1="${markX(value)}" x2="${markX(value)}" y1="0" y2="26" stroke="${paint('rule')}"/>`,
  );
  return `<svg class="marks" viewBox="0 0 200 26" width="200" height="26" aria-hidden="true">${rules.join('')}${mark(before, 8, false)}${mark(after, 18, true)}</svg>`;
}

export function percent(value: number): string {
  return `${(100 * value).toFixed(0)}%`;
}

function layerColour(index: number): Colour {
  return LAYERS[index % LAYERS.length]!;
}

function growth(points: readonly Point[]): number {
  return (points.at(-1)?.value ?? 0) - (points[0]?.value ?? 0);
}

function extent(values: readonly number[]): readonly [number, number] {
  if (values.length === 0) return [0, 1];
  return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
}
