/**
 * How an endpoint writes what was sampled: as one object, or as the chunks of a stream.
 *
 * A stream's chunks put together hold what the one object holds. Each endpoint has its own writer, made for one job.
 */
import type { Written } from '../text/message.ts';
import type { Job, Piece, ServedModel, Usage } from './job.ts';

export interface Writer {
  whole(written: readonly Written[], usage: Usage): object;
  /** What comes first. */
  opening(): object[];
  piece(choice: number, piece: Piece): object[];
  closing(choice: number, written: Written): object[];
  /** The last chunk, where it was asked for. */
  usage(usage: Usage): object;
}

/** What every object and chunk of a reply begins with. */
export function replyHead(
  kind: string,
  { id, created, model, job }: { id: string; created: number; model: ServedModel; job: Job },
): object {
  return {
    id,
    object: kind,
    created,
    model: model.name,
    // The same fingerprint and seed give the same completions.
    system_fingerprint: `r3-${model.engine.capabilities().modelHash.slice(0, 16)}`,
    seed: job.seed,
  };
}

export interface ReplyContext {
  /** Unique, without a prefix. */
  id: string;
  /** Unix time in seconds. */
  created: number;
  model: ServedModel;
}
