/** `r3 tokenize`: the token ids of texts, and what they decode to. */
import type { Command } from 'commander';
import { z } from 'zod';
import { explainIssue } from '../lib/json.ts';
import { placeOf, readRows } from '../tasks/rows.ts';
import { loadTokenizer } from '../text/tokenizer.ts';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples } from './options.ts';
import { findTexts, rowError } from './session.ts';

interface Flags {
  texts: string;
  addSpecialTokens?: boolean;
  json?: boolean;
}

const schema = z.looseObject({ text: z.string() });

export function define(command: Command, io: Io): void {
  command
    .description('Token ids of texts. Special tokens that stand in a text become their one id.')
    .argument('<tokenizer>', 'model folder, or a tokenizer.json')
    .requiredOption('--texts <file>', '.jsonl with {"text": "..."} on each line')
    .option(
      '--add-special-tokens',
      "add those that the tokenizer's post-processor puts around a text, such as BOS",
    )
    .option('--json', 'one line of JSON for each text: {ids, decoded}; decoded shows special tokens');
  addExamples(
    command,
    `
  r3 tokenize MODEL --texts rows.jsonl
  r3 tokenize MODEL/tokenizer.json --texts rows.jsonl --add-special-tokens --json`,
  );
  command.action((model: string, flags: Flags) => tokenize(model, flags, io));
}

async function tokenize(named: string, flags: Flags, io: Io): Promise<void> {
  const tokenizer = loadTokenizer(findTexts(named, io.env));
  for await (const { row, line } of readRows(flags.texts)) {
    const parsed = schema.safeParse(row);
    if (!parsed.success) {
      throw rowError(placeOf(flags.texts, line), new Error(explainIssue(parsed.error.issues, row)));
    }
    const { text } = parsed.data;
    const ids = flags.addSpecialTokens === true ? tokenizer.encodeWithSpecials(text) : tokenizer.encode(text);
    if (flags.json === true) printJson(io, { ids, decoded: tokenizer.decodeWithSpecials(ids) });
    else printLine(io, `${line}: ${ids.map((id) => JSON.stringify(tokenizer.tokenText(id))).join(' ')}`);
  }
}
