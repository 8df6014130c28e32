/**
 * Progress on stderr: what is being done, how far it is, how long it will take, and the current numbers.
 *
 * In a terminal one status line is drawn over itself, at most ten times a second; log lines are printed above it.
 * Elsewhere (a pipe, CI, NO_COLOR) it prints a plain line every few seconds, and one as soon as the last step of a
 * phase is done. A phase that is over leaves one line. There is no timer: time passes with `update`. Stream and clock are arguments.
 */
import { oneLine, printable } from '../lib/printable.ts';
import { widthOf } from './table.ts';

const DRAW_INTERVAL_MS = 100;
const PLAIN_INTERVAL_MS = 5000;
const DEFAULT_COLUMNS = 80;
const BAR_CELLS = 16;
const SPARK_CELLS = 16;
const SPARKS = '▁▂▃▄▅▆▇█';
const CLEAR_LINE = '\x1b[2K\r';

export interface ProgressStream {
  write(text: string): unknown;
  /** Read at each drawing, so that a resized terminal is honoured. */
  columns?: number | undefined;
}

export interface ProgressOptions {
  stream: ProgressStream;
  /** Whether to draw a status line; see `wantsStatusLine`. */
  isTty: boolean;
  /** Milliseconds, from any start. */
  now: () => number;
}

/** Current numbers by name, in the order of display. The first number is also drawn as a small curve. */
export type ProgressFields = Readonly<Record<string, number | string>>;

export interface Progress {
  /**
   * Ends the current phase and begins another. `total`: its steps, where known; `done`: steps done before (a resumed
   * run); `show`: how a number of steps is written, such as bytes.
   */
  phase(name: string, total?: number, done?: number, show?: (steps: number) => string): void;
  update(done: number, fields?: ProgressFields): void;
  /** One or more whole lines. */
  log(line: string): void;
  /** Ends the current phase. Must also be called on the way out of an error. */
  end(): void;
}

/** A status line is drawn in a terminal that is not told otherwise. */
export function wantsStatusLine(
  stream: { isTTY?: boolean | undefined },
  env: Readonly<Record<string, string | undefined>>,
): boolean {
  const set = (name: string): boolean => (env[name] ?? '') !== '';
  return stream.isTTY === true && !set('CI') && !set('NO_COLOR') && env['TERM'] !== 'dumb';
}

interface Phase {
  name: string;
  total: number | undefined;
  /** Steps that were done before the phase began. */
  start: number;
  done: number;
  startMs: number;
  fields: ProgressFields;
  /** The last values of the first field that is a number. */
  history: number[];
  /** Whether its last line has been printed. */
  told: boolean;
  show: (steps: number) => string;
}

export function makeProgress({ stream, isTty, now }: ProgressOptions): Progress {
  let current: Phase | undefined;
  let lastMs = Number.NEGATIVE_INFINITY;

  const draw = (): void => {
    if (current === undefined) return;
    lastMs = now();
    if (isTty)
      stream.write(CLEAR_LINE + statusLine(current, lastMs, (stream.columns ?? DEFAULT_COLUMNS) - 1));
    else {
      stream.write(`${plainLine(current, lastMs)}\n`);
      current.told = current.done === current.total;
    }
  };
  const end = (): void => {
    if (current === undefined) return;
    if (!current.told) stream.write(`${isTty ? CLEAR_LINE : ''}${plainLine(current, now(), true)}\n`);
    current = undefined;
  };
  return {
    phase: (name, total, done = 0, show = String) => {
      end();
      current = {
        name: oneLine(name),
        total,
        start: done,
        done,
        startMs: now(),
        fields: {},
        history: [],
        told: false,
        show,
      };
      // A plain line at once would say nothing yet.
      if (isTty) draw();
      else lastMs = now();
    },
    update: (done, fields) => {
      if (current === undefined) return;
      current.done = done;
      if (fields !== undefined) {
        current.fields = fields;
        const first = Object.values(fields).find((value) => typeof value === 'number');
        if (first !== undefined) current.history = [...current.history, first].slice(-SPARK_CELLS);
      }
      const due = now() - lastMs >= (isTty ? DRAW_INTERVAL_MS : PLAIN_INTERVAL_MS);
      // At once, so that what is logged after the last step stands after it.
      const last = !isTty && done === current.total;
      if ((due || last) && !current.told) draw();
    },
    log: (line) => {
      stream.write(`${isTty && current !== undefined ? CLEAR_LINE : ''}${printable(line)}\n`);
      if (isTty) draw();
    },
    end,
  };
}

/** The parts of the status line that fit: the curve goes first, then the bar, then fields from the last. */
function statusLine(phase: Phase, nowMs: number, columns: number): string {
  const { name, total, done, history } = phase;
  const fields = fieldTexts(phase.fields);
  const bar = total === undefined || total <= 0 ? '' : barOf(done / total);
  const times = timesOf(phase, nowMs);
  const variants = [
    [name, bar, countOf(phase), ...times, ...fields, sparkline(history)],
    [name, bar, countOf(phase), ...times, ...fields],
    ...fields.map((_, dropped) => [
      name,
      countOf(phase),
      ...times,
      ...fields.slice(0, fields.length - dropped),
    ]),
    [name, countOf(phase), ...times],
  ].map((parts) => parts.filter((part) => part !== '').join('  '));
  const fitting = variants.find((line) => widthOf(line) <= columns) ?? variants.at(-1) ?? '';
  return Array.from(fitting).slice(0, Math.max(0, columns)).join('');
}

function plainLine(phase: Phase, nowMs: number, over = false): string {
  const times = over ? [formatDuration(nowMs - phase.startMs)] : timesOf(phase, nowMs);
  return [phase.name, countOf(phase), ...times, ...fieldTexts(phase.fields)]
    .filter((part) => part !== '')
    .join('  ');
}

function countOf({ done, total, show }: Phase): string {
  if (total !== undefined) return `${show(done)}/${show(total)}`;
  return done > 0 ? show(done) : '';
}

/**
 * Elapsed, and the time left at the phase's mean pace. Of a batch much is done at once and nothing before, so the pace
 * is not told until a twentieth of the phase or a minute has gone by.
 */
function timesOf({ start, done, total, startMs }: Phase, nowMs: number): string[] {
  const elapsedMs = nowMs - startMs;
  const elapsed = formatDuration(elapsedMs);
  if (total === undefined || done <= start || done >= total) return [elapsed];
  if (done - start < (total - start) / 20 && elapsedMs < 60_000) return [elapsed];
  const leftMs = (elapsedMs / (done - start)) * (total - done);
  return [elapsed, `${formatDuration(leftMs)} left`];
}

function fieldTexts(fields: ProgressFields): string[] {
  return Object.entries(fields).map(
    ([name, value]) => `${oneLine(name)} ${typeof value === 'number' ? formatNumber(value) : oneLine(value)}`,
  );
}

function barOf(share: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * BAR_CELLS);
  return '█'.repeat(filled) + '░'.repeat(BAR_CELLS - filled);
}

/** One character per value, from the lowest to the highest of them. Empty for fewer than two values. */
export function sparkline(values: readonly number[]): string {
  const finite = values.filter(Number.isFinite);
  if (finite.length < 2) return '';
  const low = Math.min(...finite);
  const span = Math.max(...finite) - low;
  return finite
    .map((value) => SPARKS[span === 0 ? 0 : Math.round(((value - low) / span) * (SPARKS.length - 1))])
    .join('');
}

/** Whole numbers as they are, others with three significant digits. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value) || Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 1000 ? value.toFixed(0) : value.toPrecision(3);
}

/** `m:ss`, from an hour on `h:mm:ss`. */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${twoDigits(seconds % 60)}`;
  return `${Math.floor(minutes / 60)}:${twoDigits(minutes % 60)}:${twoDigits(seconds % 60)}`;
}

function twoDigits(n: number): string {
  return String(n).padStart(2, '0');
}
