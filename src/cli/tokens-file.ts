/**
 * Rows of token ids: a .jsonl file with `{"tokens": [1, 5, 9]}` on each line, checked against a model's config.
 */
import { z } from 'zod';
import type { ModelConfig } from '../engine/local/config.ts';
import { explainIssue } from '../lib/json.ts';
import { placeOf, readRows } from '../tasks/rows.ts';
import { rowError } from './session.ts';

/** Far more than any context. */
const MAX_TOKENS = 1 << 20;

const schema = z.looseObject({
  tokens: z.array(z.int().min(0)).min(1).max(MAX_TOKENS),
});

/** The ids of all rows. Throws R3Error `bad-row` with file and line, `bad-file`. */
export async function loadTokenRows(path: string, config: ModelConfig): Promise<number[][]> {
  const { vocabularySize, contextLength } = config;
  const rows: number[][] = [];
  for await (const { row, line } of readRows(path)) {
    const where = placeOf(path, line);
    const parsed = schema.safeParse(row);
    if (!parsed.success) {
      throw rowError(where, new Error(explainIssue(parsed.error.issues, row)));
    }
    const { tokens } = parsed.data;
    const unknown = tokens.find((id) => id >= vocabularySize);
    if (unknown !== undefined) {
      throw rowError(
        where,
        new Error(`tokens: expected ids from 0 to ${vocabularySize - 1}, got ${unknown}`),
      );
    }
    if (tokens.length > contextLength) {
      throw rowError(
        where,
        new Error(`tokens: expected at most ${contextLength} (the model's context), got ${tokens.length}`),
      );
    }
    rows.push(tokens);
  }
  return rows;
}
