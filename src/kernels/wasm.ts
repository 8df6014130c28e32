/**
 * The WASM build: the ops of kernels.wasm (128-bit SIMD), with threads over one shared memory.
 *
 * Always available: no compiler, any system. Each build owns a memory of up to 4 GiB that grows on demand; the
 * allocator is first-fit over it, with neighbours joined. The pool's threads are worker threads, each with an
 * instance of the module and a stack of its own; until they have started, the caller works alone.
 * A buffer that was not allocated here has no address in the memory: it is refused.
 */
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { messageOf, R3Error } from '../lib/errors.ts';
import { makeCompiledOps } from './compiled.ts';
import type { CompiledFunctions } from './compiled.ts';
import type { Ops } from './ops.ts';

const ALIGNMENT = 64;
const PAGE_BYTES = 65536;
const LIMIT_PAGES = 65536;
const INITIAL_PAGES = 64;
/** The C code keeps at most some tens of kilobytes on its stack. */
const STACK_BYTES = 256 * 1024;

/** What a pool thread runs. As text, because a worker cannot load a TypeScript file in Node 20. */
const WORKER = `
const { module, memory, stack, thread } = require('node:worker_threads').workerData;
const refuse = () => { throw new Error('internal error: a pool thread allocates'); };
const { exports } = new WebAssembly.Instance(module, { env: { memory, allocate: refuse, release: refuse } });
exports.__stack_pointer.value = stack;
exports.worker(thread);
`;

/** The part of WebAssembly that is used here; the types of Node leave it out. */
interface WasmMemory {
  readonly buffer: SharedArrayBuffer;
  grow(pages: number): number;
}
type WasmModule = object;
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => WasmModule;
  Memory: new (limits: { initial: number; maximum: number; shared: true }) => WasmMemory;
  Instance: new (module: WasmModule, imports: object) => { exports: Exports };
};

interface Exports extends CompiledFunctions<number> {
  heapBase(): number;
  open(threads: number): void;
  close(): void;
}

/** Throws R3Error `not-available` where kernels.wasm is missing or the engine lacks SIMD or threads. */
export function makeWasmOps(threads: number): Ops {
  const { module, memory } = loadModule();
  const heap = makeHeap(memory);
  const instance = new WebAssembly.Instance(module, {
    env: {
      memory,
      allocate: (bytes: number) => heap.allocate(bytes >>> 0),
      release: (at: number) => heap.release(at >>> 0),
    },
  });
  const { exports } = instance;
  heap.start(exports.heapBase() >>> 0);
  exports.open(threads);
  for (let thread = 1; thread < threads; thread++) {
    const stack = heap.allocate(STACK_BYTES) + STACK_BYTES;
    new Worker(WORKER, { eval: true, workerData: { module, memory, stack, thread } }).unref();
  }

  // Views are made on the memory as it was when they were allocated; it stays the same memory when it grows.
  const buffers = new WeakSet<ArrayBufferLike>();
  let bytes = 0;
  let peakBytes = 0;

  function allocate(length: number): { buffer: SharedArrayBuffer; offset: number } {
    const offset = heap.allocate(length * 4);
    const { buffer } = memory;
    buffers.add(buffer);
    bytes += heap.sizeBytes(offset);
    peakBytes = Math.max(peakBytes, bytes);
    return { buffer, offset };
  }

  function addressOf(view: Float32Array | Int32Array): number {
    if (buffers.has(view.buffer)) return view.byteOffset;
    throw new R3Error(
      'kernels',
      'bad-shape',
      'buffer: expected one from f32 or i32 of this build, got another',
    );
  }

  return {
    build: 'wasm',
    variant: 'simd128',
    threads,
    f32(length) {
      const { buffer, offset } = allocate(length);
      return new Float32Array(buffer, offset, length).fill(0);
    },
    i32(length) {
      const { buffer, offset } = allocate(length);
      return new Int32Array(buffer, offset, length).fill(0);
    },
    free(view) {
      if (!buffers.has(view.buffer)) return;
      bytes -= heap.sizeBytes(view.byteOffset);
      heap.release(view.byteOffset);
    },
    memory: () => ({ bytes, peakBytes }),
    ...makeCompiledOps(exports, threads, addressOf),
    close: () => exports.close(),
  };
}

function loadModule(): { module: WasmModule; memory: WasmMemory } {
  try {
    return {
      module: new WebAssembly.Module(readFileSync(new URL('kernels.wasm', import.meta.url))),
      memory: new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum: LIMIT_PAGES, shared: true }),
    };
  } catch (error) {
    throw new R3Error(
      'kernels',
      'not-available',
      `wasm kernels: expected kernels.wasm to load, got: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}

interface Block {
  at: number;
  sizeBytes: number;
}

/** First-fit over a growing memory. Addresses are multiples of 64. Only the thread that owns the ops calls it. */
function makeHeap(memory: WasmMemory) {
  /** Free blocks, ascending, never adjacent. */
  const free: Block[] = [];
  const used = new Map<number, number>();
  let end = 0;

  function grow(sizeBytes: number): void {
    const missing = end + sizeBytes - memory.buffer.byteLength;
    if (missing > 0) {
      try {
        memory.grow(Math.ceil(missing / PAGE_BYTES));
      } catch (error) {
        throw new R3Error(
          'kernels',
          'no-memory',
          `wasm memory: expected ${end + sizeBytes} bytes, got at most 4 GiB`,
          {
            cause: error,
          },
        );
      }
    }
    insert({ at: end, sizeBytes });
    end += sizeBytes;
  }

  function insert(block: Block): void {
    let place = free.findIndex(({ at }) => at > block.at);
    if (place < 0) place = free.length;
    const before = free[place - 1];
    const after = free[place];
    const joinsBefore = before !== undefined && before.at + before.sizeBytes === block.at;
    const joinsAfter = after !== undefined && block.at + block.sizeBytes === after.at;
    if (joinsBefore) before.sizeBytes += block.sizeBytes + (joinsAfter ? after.sizeBytes : 0);
    else if (joinsAfter) Object.assign(after, { at: block.at, sizeBytes: block.sizeBytes + after.sizeBytes });
    else free.splice(place, 0, block);
    if (joinsBefore && joinsAfter) free.splice(place, 1);
  }

  return {
    start(at: number): void {
      end = Math.ceil(at / ALIGNMENT) * ALIGNMENT;
    },
    allocate(bytes: number): number {
      const sizeBytes = Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT;
      let place = free.findIndex((block) => block.sizeBytes >= sizeBytes);
      if (place < 0) {
        const last = free.at(-1);
        grow(last !== undefined && last.at + last.sizeBytes === end ? sizeBytes - last.sizeBytes : sizeBytes);
        place = free.length - 1;
      }
      const block = free[place]!;
      const { at } = block;
      if (block.sizeBytes === sizeBytes) free.splice(place, 1);
      else Object.assign(block, { at: at + sizeBytes, sizeBytes: block.sizeBytes - sizeBytes });
      used.set(at, sizeBytes);
      return at;
    },
    release(at: number): void {
      const sizeBytes = used.get(at);
      if (sizeBytes === undefined) return;
      used.delete(at);
      insert({ at, sizeBytes });
    },
    /** Of the block at this address; 0 where there is none. */
    sizeBytes: (at: number): number => used.get(at) ?? 0,
  };
}
