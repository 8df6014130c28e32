/**
 * Counter-based random numbers: a value is a pure function of (seed, stream, counter), so that any draw can
 * be made without the draws before it, in any order. Squares-like mixing with the finaliser of splitmix32
 * rounds; passes no cryptographic purpose.
 */

/** Mixes three unsigned 32-bit integers into one. */
export function hash32(seed: number, stream: number, counter: number): number {
  let h = (seed ^ 0x9e3779b9) >>> 0;
  h = mix(h ^ Math.imul(stream + 0x7f4a7c15, 0x85ebca6b));
  h = mix(h ^ Math.imul(counter + 0x165667b1, 0xc2b2ae35));
  return mix(h + 0x27d4eb2f);
}

function mix(x: number): number {
  let h = x >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x21f0aaad);
  h = Math.imul(h ^ (h >>> 15), 0x735a2d97);
  return (h ^ (h >>> 15)) >>> 0;
}

/** Uniform in [0, 1), a multiple of 2^-24: exact in f32. */
export function uniform24(seed: number, stream: number, counter: number): number {
  return (hash32(seed, stream, counter) >>> 8) / 0x1000000;
}

/** A sequential generator over one stream. `state` can be saved and restored. */
export interface Rng {
  /** Uniform in [0, 1) with 24 bits. */
  next(): number;
  /** Uniform integer in [0, n). */
  below(n: number): number;
  /** A fresh unsigned 32-bit seed. */
  seed(): number;
  /** Fisher-Yates, in place. */
  shuffle<T>(items: T[]): T[];
  pick<T>(items: readonly T[]): T;
  /** How many values were drawn. */
  state(): number;
}

export function makeRng(seed: number, stream = 0, start = 0): Rng {
  let counter = start;
  const draw = (): number => hash32(seed, stream, counter++);
  const below = (n: number): number => Math.floor((draw() / 0x100000000) * n);
  return {
    next: () => (draw() >>> 8) / 0x1000000,
    below,
    seed: draw,
    shuffle: (items) => {
      for (let i = items.length - 1; i > 0; i--) {
        const j = below(i + 1);
        const held = items[i] as (typeof items)[number];
        items[i] = items[j] as (typeof items)[number];
        items[j] = held;
      }
      return items;
    },
    pick: (items) => {
      if (items.length === 0) throw new Error('internal error: pick from an empty list');
      return items[below(items.length)] as (typeof items)[number];
    },
    state: () => counter,
  };
}

/** A 32-bit FNV-1a hash of a string: for seeds and splits, never for identity. */
export function hashText(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return mix(h);
}
