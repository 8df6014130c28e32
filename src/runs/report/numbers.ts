/** How numbers look in the report: shares in percent, differences with their sign, a dash where there is nothing. */
import type { ChangeInterval } from '../../method/controls.ts';
import type { RateLike } from './results.ts';

export const NOTHING = '–';

export function numberOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

/** A share in percent, without the sign. */
export function points(share: number): string {
  return Number.isFinite(share) ? (100 * share).toFixed(1) : NOTHING;
}

export function signed(share: number): string {
  if (!Number.isFinite(share)) return NOTHING;
  const text = points(Math.abs(share));
  return text === '0.0' ? text : `${share < 0 ? '−' : '+'}${text}`;
}

export function range(low: number, high: number, format: (share: number) => string): string {
  return `${format(low)} to ${format(high)}`;
}

export function rangeOf({ low, high }: RateLike): string {
  return range(low, high, points);
}

export function differenceText({ diff, low, high }: ChangeInterval): string {
  return Number.isFinite(diff)
    ? `${signed(diff)} points, 95% interval ${range(low, high, signed)}`
    : 'not measured';
}

/** Two or three digits. */
export function plain(value: number): string {
  if (!Number.isFinite(value)) return NOTHING;
  return Math.abs(value) >= 10 ? value.toFixed(0) : Number(value.toPrecision(2)).toString();
}

/** Natural logarithms and advantages: a sign where there is one, two digits after the point. */
export function signedNumber(value: number): string {
  if (!Number.isFinite(value)) return NOTHING;
  const text = Math.abs(value).toFixed(2);
  return value < 0 && text !== '0.00' ? `−${text}` : value > 0 && text !== '0.00' ? `+${text}` : text;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The q-quantile of ascending values, 0 <= q <= 1, nearest rank; NaN without values. */
export function quantile(ascending: readonly number[], q: number): number {
  return ascending[Math.max(0, Math.ceil(q * ascending.length) - 1)] ?? Number.NaN;
}
