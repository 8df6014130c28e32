/**
 * Named scratch memory that grows to the largest size asked for and is then reused.
 *
 * Fresh memory costs a page fault per 4 KiB; a training step reuses the same buffers hundreds of times. A
 * buffer's content is whatever the last user of its name left there.
 */
import type { Ops } from '../../kernels/ops.ts';

export interface Workspace {
  /** At least `length` floats. */
  floats(name: string, length: number): Float32Array;
  /** At least `length` floats, the first `length` of them zero. */
  zeros(name: string, length: number): Float32Array;
  /** A copy of `values` in memory that ops may use. */
  ints(name: string, values: Int32Array | readonly number[]): Int32Array;
}

export function makeWorkspace(ops: Ops): Workspace {
  const held = new Map<string, Float32Array | Int32Array>();
  const grow = <T extends Float32Array | Int32Array>(
    name: string,
    length: number,
    allocate: (length: number) => T,
  ): T => {
    const old = held.get(name);
    if (old !== undefined && old.length >= length) return old as T;
    if (old !== undefined) ops.free(old);
    const fresh = allocate(length);
    held.set(name, fresh);
    return fresh;
  };
  const floats = (name: string, length: number): Float32Array => grow(name, Math.max(length, 1), ops.f32);
  return {
    floats,
    zeros: (name, length) => {
      const buffer = floats(name, length);
      buffer.fill(0, 0, length);
      return buffer;
    },
    ints: (name, values) => {
      // An eighth more than asked for: lists of spans grow a little with every token.
      const buffer = grow(name, Math.max(values.length + (values.length >> 3), 1), ops.i32);
      buffer.set(values);
      return buffer;
    },
  };
}
