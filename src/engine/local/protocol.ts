/**
 * What the engine's thread and the rest of the program say to each other.
 *
 * A call has an id and gets one answer. Losses are functions and stay on the caller's side: a training call is
 * `forward`, the loss, then `backward`.
 */
import type { Boundary, ErrorCode } from '../../lib/errors.ts';
import type {
  AdamParams,
  Capabilities,
  Completion,
  Datum,
  EngineStats,
  SamplingParams,
  StepResult,
  WeightsName,
} from '../engine.ts';

export interface Calls {
  capabilities: { input: undefined; output: Capabilities };
  sample: {
    input: { prompt: number[]; count: number; params: SamplingParams; seed: number; stream: boolean };
    output: Completion[];
  };
  forward: {
    input: { datums: readonly Datum[]; temperature: number; weights: WeightsName; keep: boolean };
    output: Float32Array[];
  };
  backward: { input: Float32Array[]; output: undefined };
  step: { input: AdamParams; output: StepResult };
  gradientNorms: { input: undefined; output: Record<string, number> };
  zeroGradients: { input: undefined; output: undefined };
  save: { input: string; output: undefined };
  saveState: { input: string; output: undefined };
  loadState: { input: string; output: undefined };
  stats: { input: undefined; output: EngineStats };
}

export type CallName = keyof Calls;

export type ToEngine =
  | { [Name in CallName]: { kind: 'call'; id: number; name: Name; input: Calls[Name]['input'] } }[CallName]
  /** Ends the `sample` call with this id; it answers with what it has. */
  | { kind: 'cancel'; id: number }
  | { kind: 'close' };

export type FromEngine =
  | { kind: 'done'; id: number; output: unknown }
  | { kind: 'failed'; id: number; message: string; code?: ErrorCode; boundary?: Boundary }
  | { kind: 'token'; id: number; index: number; token: number; logprob: number };
