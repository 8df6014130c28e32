/**
 * The two 16-bit float formats of weights files, to and from f32.
 *
 *   bf16: 1 sign, 8 exponent and 7 fraction bits: the upper half of an f32
 *   f16:  1 sign, 5 exponent and 10 fraction bits (IEEE 754 binary16), largest number 65504
 *
 * To f32 is exact. From f32 rounds to nearest, ties to even; a NaN becomes one fixed NaN. Loops over the bits of a
 * whole array: a weights file has hundreds of millions of them.
 */

/** bf16 bits as f32, into `values` when given, which must have as many. */
export function bf16ToF32(
  bits: Uint16Array,
  values: Float32Array = new Float32Array(bits.length),
): Float32Array {
  if (bits.byteOffset % 4 !== 0) return bf16ToF32(bits.slice(), values);
  // Two to a word and four words at a time: three times the speed of one by one.
  const pairs = new Int32Array(bits.buffer, bits.byteOffset, bits.length >> 1);
  const words = new Int32Array(values.buffer, values.byteOffset, bits.length);
  const whole = pairs.length & ~3;
  for (let i = 0, j = 0; i < whole; i += 4, j += 8) {
    const a = pairs[i]!;
    const b = pairs[i + 1]!;
    const c = pairs[i + 2]!;
    const d = pairs[i + 3]!;
    words[j] = a << 16;
    words[j + 1] = a & 0xffff0000;
    words[j + 2] = b << 16;
    words[j + 3] = b & 0xffff0000;
    words[j + 4] = c << 16;
    words[j + 5] = c & 0xffff0000;
    words[j + 6] = d << 16;
    words[j + 7] = d & 0xffff0000;
  }
  for (let i = 2 * whole; i < bits.length; i++) words[i] = bits[i]! << 16;
  return values;
}

/** The bf16 bits of each f32. Numbers from (2 - 2^-8) 2^127 on become infinite. */
export function f32ToBf16(values: Float32Array): Uint16Array {
  const words = wordsOf(values);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const isNan = (word & 0x7fffffff) > 0x7f800000;
    // Half of the last kept bit, less one when that bit is even: a tie then carries only into an odd one.
    bits[i] = isNan ? 0x7fc0 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return bits;
}

/** f16 bits as f32, into `values` when given, which must have as many. */
export function f16ToF32(
  bits: Uint16Array,
  values: Float32Array = new Float32Array(bits.length),
): Float32Array {
  f16Table ??= Float32Array.from({ length: 0x10000 }, (_, half) => f16Value(half));
  const table = f16Table;
  const whole = bits.length & ~3;
  for (let i = 0; i < whole; i += 4) {
    values[i] = table[bits[i]!]!;
    values[i + 1] = table[bits[i + 1]!]!;
    values[i + 2] = table[bits[i + 2]!]!;
    values[i + 3] = table[bits[i + 3]!]!;
  }
  for (let i = whole; i < bits.length; i++) values[i] = table[bits[i]!]!;
  return values;
}

/** 256 KiB, made when the first f16 is read. */
let f16Table: Float32Array | undefined;

function f16Value(half: number): number {
  const sign = half >>> 15 === 1 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** From here on a number rounds to an infinite f16: half a step above the largest finite one. */
export const F16_LIMIT = 65520;

/** The f16 bits of each f32. Numbers from 65520 on become infinite. */
export function f32ToF16(values: Float32Array): Uint16Array {
  const words = wordsOf(values);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const magnitude = word & 0x7fffffff;
    let half: number;
    if (magnitude > 0x7f800000) half = 0x7e00;
    else if (magnitude >= LIMIT_BITS) half = 0x7c00;
    // A normal f16: 13 bits fewer of fraction, an exponent bias of 15 in place of 127. Rounding as for bf16.
    else if (magnitude >= 0x38800000)
      half = (magnitude + 0xfff + ((magnitude >>> 13) & 1) - (112 << 23)) >>> 13;
    // Below 2^-14 the step is 2^-24. A double near 2^52 holds whole numbers only: adding it rounds to even.
    else half = Math.abs(values[i]!) * 2 ** 24 + 2 ** 52 - 2 ** 52;
    bits[i] = ((word >>> 16) & 0x8000) | half;
  }
  return bits;
}

/** The f32 bits of F16_LIMIT. */
const LIMIT_BITS = 0x477ff000;

function wordsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}
