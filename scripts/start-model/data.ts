/**
 * Writes the warm-up data of one phase as JSON lines, or describes the phases.
 *
 *   node scripts/run-ts.mjs scripts/start-model/data.ts --describe [--recipe countdown]
 *   node scripts/run-ts.mjs scripts/start-model/data.ts --phase 1 --out phase-1.jsonl \
 *     [--recipe countdown] [--seed 0] [--count 1000] [--exclude countdown-test.jsonl ...]
 *
 * Each line is a conversation in the format of `src/method/conversation.ts`, with its kind. Problems of the files
 * after --exclude are left out. Prints the counts by kind and the lengths in tokens.
 */
import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { R3Error } from '../../src/lib/errors.ts';
import { trainedTokens, type ConversationRow } from '../../src/method/conversation.ts';
import { phaseNamed } from './recipe.ts';
import { recipeNamed } from './recipes.ts';

const { values } = parseArgs({
  options: {
    recipe: { type: 'string', default: 'countdown' },
    describe: { type: 'boolean', default: false },
    phase: { type: 'string' },
    out: { type: 'string' },
    seed: { type: 'string' },
    count: { type: 'string' },
    exclude: { type: 'string', multiple: true, default: [] },
  },
});

const recipe = recipeNamed(values.recipe);
if (values.describe) {
  const { training, phases } = recipe;
  console.log(JSON.stringify({ training, phases }, null, 2));
} else await write(required('phase'), required('out'));

function required(name: 'phase' | 'out'): string {
  const value = values[name];
  if (value === undefined) throw new R3Error('config', 'bad-option', `--${name}: expected a value, got none`);
  return value;
}

function whole(name: string, text: string | undefined): number | undefined {
  if (text === undefined || /^\d{1,9}$/.test(text)) return text === undefined ? undefined : Number(text);
  throw new R3Error('config', 'bad-option', `--${name}: expected a whole number, got ${text}`);
}

async function write(phaseName: string, out: string): Promise<void> {
  const phase = phaseNamed(recipe.phases, phaseName);
  const exclude = new Set((await Promise.all(values.exclude.map(recipe.keysOf))).flat());
  const to = whole('count', values.count) ?? phase.sequences;
  const seed = whole('seed', values.seed) ?? 0;

  const counts: Record<string, number> = {};
  const tokens = { rows: 0, total: 0, trained: 0, longest: 0 };
  function* lines(): Generator<string, void, undefined> {
    for (const row of recipe.rows(phaseName, { seed, to, exclude })) {
      const { total, trained } = lengthOf(row);
      counts[row.kind ?? ''] = (counts[row.kind ?? ''] ?? 0) + 1;
      tokens.rows += 1;
      tokens.total += total;
      tokens.trained += trained;
      tokens.longest = Math.max(tokens.longest, total);
      yield `${JSON.stringify(row)}\n`;
    }
  }
  await pipeline(Readable.from(lines()), createWriteStream(out));
  console.log(JSON.stringify({ counts, tokens, mean: tokens.total / tokens.rows }, null, 2));
}

/** In tokens of the start model: one for each word, the start, each role, and the end of each assistant turn. */
function lengthOf({ messages }: ConversationRow): { total: number; trained: number } {
  let total = 1;
  let trained = 0;
  for (const message of messages) {
    const count = message.content.split(' ').length + (message.role === 'assistant' ? 1 : 0);
    total += 1 + count;
    trained += trainedTokens(message, count, 'row').length;
  }
  return { total, trained };
}
