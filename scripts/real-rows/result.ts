/** What a check of a task on real rows says, and how it reads them. Shared by the checks in this folder. */
import { readRows } from '../../src/tasks/rows.ts';

export interface RealRowsResult {
  name: string;
  rows: number;
  passed: number;
  /** What is expected where not all rows pass, and which do not. */
  note?: string;
}

/** Counts the rows of a file for which `passes` holds; the first that fail are named in the note. */
export async function countRows(
  name: string,
  path: string,
  passes: (row: unknown, index: number) => boolean | Promise<boolean>,
): Promise<RealRowsResult> {
  let rows = 0;
  let passed = 0;
  const failed: number[] = [];
  for await (const { row, line } of readRows(path)) {
    rows += 1;
    if (await passes(row, line - 1)) passed += 1;
    else failed.push(line);
  }
  const note = failed.length === 0 ? {} : { note: `failed: lines ${failed.slice(0, 10).join(', ')}` };
  return { name, rows, passed, ...note };
}
