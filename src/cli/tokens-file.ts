/**
 * Rows of token ids: a .jsonl file with `{"tokens": [1, 5, 9]}` on each line.
 *
 * Checks what a file can be checked for without a model; ids outside a vocabulary are found by the engine.
 */
import { z } from 'zod';
import { placeOf, readRows } from '../tasks/rows.ts';
import { rowError } from './session.ts';

/** Far more than any context. */
const MAX_TOKENS = 1 << 20;

export interface TokenRow {
  tokens: number[];
  /** `rows.jsonl line 3`, for messages. */
  where: string;
}

const schema = z.looseObject({
  tokens: z.array(z.int().min(0)).min(1).max(MAX_TOKENS),
});

/** All rows. Throws R3Error `bad-row` with file and line, `bad-file`. */
export async function loadTokenRows(path: string): Promise<TokenRow[]> {
  const rows: TokenRow[] = [];
  for await (const { row, line } of readRows(path)) {
    const where = placeOf(path, line);
    const parsed = schema.safeParse(row);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      const field = issue === undefined ? 'tokens' : issue.path.map(String).join('.');
      throw rowError(
        where,
        new Error(`${field}: expected token ids in "tokens", got: ${issue?.message ?? 'a malformed row'}`),
      );
    }
    rows.push({ tokens: parsed.data.tokens, where });
  }
  return rows;
}
