/**
 * Encodes and decodes many texts with Python tokenizers and with r3, and compares.
 *
 *   node scripts/run-ts.mjs scripts/parity/tokenizers.ts FOLDER TEXTS [PYTHON] [COUNT]
 *
 * FOLDER holds model folders with a tokenizer.json; TEXTS holds .jsonl files, at any depth. PYTHON (default: R3_PYTHON, else python3) has
 * transformers 5.17. COUNT (default: 50): texts from each file. The exit code is 1 when there is a difference.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { loadTokenizer, type Tokenizer } from '../../src/text/tokenizer.ts';

const SHOWN = 12;
const [folder, texts, python = process.env['R3_PYTHON'] ?? 'python3', count = '50'] = process.argv.slice(2);
if (folder === undefined || texts === undefined)
  throw new Error('usage: tokenizers.ts FOLDER TEXTS [PYTHON] [COUNT]');
const script = join(import.meta.dirname, 'tokenizer-ids.py');
const result = spawnSync(python, [script, folder, texts, count], { encoding: 'utf8', maxBuffer: 1 << 30 });
if (result.status !== 0) throw new Error(`tokenizer-ids.py: ${result.stderr}`);

interface Expected {
  tokenizer: string;
  text: string;
  ids: number[];
  decoded: string;
  plain: string;
  withSpecials: number[];
}

const tokenizers = new Map<string, Tokenizer>();
const tally = new Map<string, { same: number; different: number }>();
for (const line of result.stdout.trimEnd().split('\n')) {
  const expected = JSON.parse(line) as Expected;
  const { tokenizer: name, text } = expected;
  const tokenizer = tokenizers.get(name) ?? loadTokenizer(join(folder, name));
  tokenizers.set(name, tokenizer);
  const got: Omit<Expected, 'tokenizer' | 'text'> = {
    ids: tokenizer.encode(text),
    decoded: tokenizer.decodeWithSpecials(expected.ids),
    plain: tokenizer.decode(expected.ids),
    withSpecials: tokenizer.encodeWithSpecials(text),
  };
  const counts = tally.get(name) ?? { same: 0, different: 0 };
  tally.set(name, counts);
  const fields = (Object.keys(got) as (keyof typeof got)[]).filter(
    (field) => JSON.stringify(got[field]) !== JSON.stringify(expected[field]),
  );
  if (fields.length === 0) counts.same += 1;
  else if (++counts.different <= SHOWN) report(name, text, fields, expected, got);
}
for (const [name, { same, different }] of tally)
  console.log(`${name}: ${same} of ${same + different} texts are the same`);
if ([...tally.values()].some(({ different }) => different > 0)) process.exitCode = 1;

function report<T extends object>(
  name: string,
  text: string,
  fields: (keyof T)[],
  expected: T,
  got: T,
): void {
  console.log(`${name}: ${JSON.stringify(text.slice(0, 200))}`);
  for (const field of fields) {
    const show = (value: T): string => JSON.stringify(value[field]).slice(0, 200);
    console.log(`  ${String(field)}\n    expected  ${show(expected)}\n    got       ${show(got)}`);
  }
}
