/** The memory of a build: zeroed, counted, kept apart, and refused where there is too little. Over every build (ops-suite.ts). */
import { expect, it } from 'vitest';
import { describeBuilds } from './ops-suite.ts';

describeBuilds('memory', (build) => {
  it('is zeroed, also where it was used before', () => {
    for (let round = 0; round < 3; round++) {
      const floats = build.ops.f32(1000);
      const ints = build.ops.i32(77);
      expect(floats.length).toBe(1000);
      expect(ints.length).toBe(77);
      expect(floats.every((value) => value === 0)).toBe(true);
      expect(ints.every((value) => value === 0)).toBe(true);
      floats.fill(1);
      ints.fill(1);
      build.ops.free(floats);
      build.ops.free(ints);
    }
  });

  it('is counted', () => {
    const before = build.ops.memory();
    const view = build.ops.f32(5000);
    const during = build.ops.memory();
    build.ops.free(view);
    const after = build.ops.memory();
    expect(during.bytes - before.bytes).toBeGreaterThanOrEqual(20000);
    expect(during.peakBytes).toBeGreaterThanOrEqual(during.bytes);
    expect(after.bytes).toBe(before.bytes);
    expect(after.peakBytes).toBe(during.peakBytes);
  });

  it('keeps its values while other memory comes and goes', () => {
    const kept = Array.from({ length: 20 }, (_, i) => build.ops.f32(100 + i).fill(i));
    const large = build.ops.f32(3_000_000).fill(-1);
    for (let i = 0; i < 20; i += 2) build.ops.free(kept[i]!);
    const more = Array.from({ length: 20 }, (_, i) => build.ops.f32(90 + i).fill(-2));
    for (let i = 1; i < 20; i += 2) expect(kept[i]!.every((value) => value === i)).toBe(true);
    expect(large.every((value) => value === -1)).toBe(true);
    for (let i = 1; i < 20; i += 2) build.ops.free(kept[i]!);
    for (const view of [large, ...more]) build.ops.free(view);
  });

  it('that cannot be had is an error no-memory', () => {
    expect(() => build.ops.f32(2 ** 50)).toThrow(expect.objectContaining({ code: 'no-memory' }));
  });
});
