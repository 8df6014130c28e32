import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from './half-floats.ts';

/** The bf16 bits of the f32 with these bits. */
function bitsOf(word: number): number {
  return f32ToBf16(new Float32Array(Uint32Array.of(word).buffer))[0]!;
}

test('bf16 rounding gives a nearest bf16, and the even one of two', () => {
  fc.assert(
    fc.property(fc.float({ noNaN: true }), (value) => {
      const bits = f32ToBf16(Float32Array.of(value))[0]!;
      const [below, got, above] = bf16ToF32(Uint16Array.of(bits - 1, bits, bits + 1));
      if (!Number.isFinite(got)) {
        expect(Math.abs(value)).toBeGreaterThanOrEqual((2 - 2 ** -8) * 2 ** 127);
        return;
      }
      const error = Math.abs(got! - value);
      for (const other of [below!, above!]) {
        if (!Number.isFinite(other)) continue;
        expect(error).toBeLessThanOrEqual(Math.abs(other - value));
        if (error === Math.abs(other - value) && other !== got) expect(bits % 2).toBe(0);
      }
    }),
    { numRuns: 2000 },
  );
  expect(
    [0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff, 0x7f800001, 0xffffffff, 0x80000000].map(bitsOf),
  ).toEqual([0x3f80, 0x3f82, 0x3f81, 0x7f80, 0x7fc0, 0x7fc0, 0x8000]);
});

test('each bf16 number survives the way to f32 and back', () => {
  const all = Uint16Array.from({ length: 0x10000 }, (_, i) => i).filter((bits) => (bits & 0x7fff) <= 0x7f80);
  expect(Buffer.from(f32ToBf16(bf16ToF32(all)).buffer).equals(Buffer.from(all.buffer))).toBe(true);
});

test('f16 covers zeros, subnormals, normals, infinities and NaN', () => {
  const bits = Uint16Array.of(
    0x0000,
    0x8000,
    0x0001,
    0x83ff,
    0x0400,
    0x3c00,
    0x3555,
    0xc000,
    0x7bff,
    0x7c00,
    0xfc00,
    0x7e00,
  );
  expect([...f16ToF32(bits)]).toEqual([
    0,
    -0,
    2 ** -24,
    -1023 * 2 ** -24,
    2 ** -14,
    1,
    0.333251953125,
    -2,
    65504,
    Infinity,
    -Infinity,
    Number.NaN,
  ]);
});

/** The f16 bits of one number. */
function f16Of(value: number): number {
  return f32ToF16(Float32Array.of(value))[0]!;
}

test('each f16 number survives the way to f32 and back', () => {
  const all = Uint16Array.from({ length: 0x10000 }, (_, i) => i).filter((bits) => (bits & 0x7fff) <= 0x7c00);
  expect(Buffer.from(f32ToF16(f16ToF32(all)).buffer).equals(Buffer.from(all.buffer))).toBe(true);
});

test('f16 rounding is to nearest, ties to even, at every step between two f16 numbers', () => {
  const finite = f16ToF32(Uint16Array.from({ length: 0x7c00 }, (_, i) => i));
  for (let bits = 0; bits + 1 < finite.length; bits++) {
    const [below, above] = [finite[bits]!, finite[bits + 1]!];
    // Exact in f32: one bit more than f16.
    const middle = (below + above) / 2;
    const step = middle * 2 ** -23;
    const even = bits + (bits & 1);
    const got = f32ToF16(Float32Array.of(middle, -middle, middle - step, middle + step));
    if (got[0] !== even || got[1] !== (even | 0x8000) || got[2] !== bits || got[3] !== bits + 1) {
      expect([...got], `between ${below} and ${above}`).toEqual([even, even | 0x8000, bits, bits + 1]);
    }
  }
});

test('f16 ends at 65504: from 65520 on a number becomes infinite; a NaN stays one', () => {
  expect([65519.99, 65520, -65520, Infinity, -Infinity, Number.NaN, 1e-10, -0].map(f16Of)).toEqual([
    0x7bff, 0x7c00, 0xfc00, 0x7c00, 0xfc00, 0x7e00, 0, 0x8000,
  ]);
});

test('arrays of every length and place in memory are converted alike', () => {
  const bits = Uint16Array.from({ length: 40 }, (_, i) => 0x3f80 + 37 * i);
  const [bf16, f16] = [bf16ToF32(bits), f16ToF32(bits)];
  expect([...bf16.subarray(0, 2)]).toEqual([1, 1 + 37 / 128]);
  for (let from = 0; from < 5; from++) {
    for (let to = from; to <= bits.length; to++) {
      expect(bf16ToF32(bits.subarray(from, to))).toEqual(bf16.slice(from, to));
      expect(f16ToF32(bits.subarray(from, to))).toEqual(f16.slice(from, to));
    }
  }
});
