/** `r3 render`: conversations through a chat template, as transformers renders them; and what the template is good for. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import type { Command } from 'commander';
import { z } from 'zod';
import { R3Error, messageOf } from '../lib/errors.ts';
import { decodeUtf8, explainIssue } from '../lib/json.ts';
import { placeOf, readRows } from '../tasks/rows.ts';
import { checkTemplate, whatTemplateTakes } from '../text/check-template.ts';
import { parseExactJson } from '../text/jinja/json.ts';
import { loadChatTemplate } from '../text/load-template.ts';
import { renderPrompt } from '../text/chat.ts';
import {
  TemplateFailure,
  makeChatTemplate,
  type ChatTemplate,
  type MessageFields,
} from '../text/template.ts';
import { printJson, printLine, type Io } from './io.ts';
import { addExamples, usageError } from './options.ts';
import { findTexts, rowError } from './session.ts';
import { printable } from './table.ts';

interface Flags {
  messages: string;
  now?: string;
  json?: boolean;
}

const schema = z.strictObject({
  messages: z.array(z.looseObject({})),
  tools: z.array(z.looseObject({})).nullish(),
  documents: z.array(z.looseObject({})).nullish(),
  add_generation_prompt: z.boolean().optional(),
  continue_final_message: z.boolean().optional(),
  variables: z.looseObject({}).optional(),
});

export function define(command: Command, io: Io): void {
  command
    .description(
      'Renders conversations through a chat template, as transformers does, and says which conversations the template can be used for answer by answer.',
    )
    .argument(
      '<template>',
      'model folder, or a .jinja file (which sees no special tokens but those in variables)',
    )
    .requiredOption(
      '--messages <file>',
      '.jsonl with {messages, tools?, documents?, add_generation_prompt?, continue_final_message?, variables?} on each line',
    )
    .option(
      '--now <time>',
      'what templates that print a date see, ISO 8601; UTC unless it says otherwise (default: the clock)',
    )
    .option(
      '--json',
      'one line of JSON for each: {text, assistantSpans?}, spans in code points, or {error: {kind: "raised" | "template", message}}',
    );
  addExamples(
    command,
    `
  r3 render MODEL --messages rows.jsonl
  r3 render template.jinja --messages rows.jsonl --now 2026-01-31 --json`,
  );
  command.action((template: string, flags: Flags) => render(template, flags, io));
}

async function render(named: string, flags: Flags, io: Io): Promise<void> {
  const now = parseNow(flags.now);
  const template = openTemplate(findTexts(named, io.env));
  for await (const { row, line, text } of readRows(flags.messages)) {
    const where = placeOf(flags.messages, line);
    const parsed = schema.safeParse(row);
    if (!parsed.success) throw rowError(where, new Error(explainIssue(parsed.error.issues, row)));
    if (text === undefined)
      throw rowError(where, new Error('expected JSON lines, whose numbers keep their form'));
    const shown = renderRow(template, parseExactJson(text) as ReadonlyMap<string, unknown>, now);
    if (flags.json === true) printJson(io, shown);
    else if (shown.error) printLine(io, printable(`${line}: ${shown.error.kind}: ${shown.error.message}`));
    else printLine(io, `${line}: ${JSON.stringify(shown.text)}`);
  }
  if (template instanceof TemplateFailure) return;
  const check = checkTemplate({ render: renderPrompt(template, now) });
  io.note(`${template.name}: ${whatTemplateTakes(check)}`);
  for (const sentence of check.detail.split('\n')) if (sentence !== '') io.note(printable(sentence));
}

interface Shown {
  text?: string;
  assistantSpans?: [number, number][];
  error?: { kind: 'raised' | 'template'; message: string };
}

/** `row`: read exactly, with the order of keys and the kinds of numbers that the file has. */
function renderRow(
  template: ChatTemplate | TemplateFailure,
  row: ReadonlyMap<string, unknown>,
  now: Date,
): Shown {
  try {
    if (template instanceof TemplateFailure) throw template;
    return template.render({
      messages: row.get('messages') as readonly MessageFields[],
      tools: (row.get('tools') ?? null) as readonly unknown[] | null,
      documents: (row.get('documents') ?? null) as readonly unknown[] | null,
      addGenerationPrompt: row.get('add_generation_prompt') === true,
      continueFinalMessage: row.get('continue_final_message') === true,
      variables: (row.get('variables') ?? new Map()) as ReadonlyMap<string, unknown>,
      now,
    });
  } catch (error) {
    if (!(error instanceof TemplateFailure)) throw error;
    return { error: { kind: error.kind, message: error.why } };
  }
}

/** A template that does not parse is the answer to every row, as it is in transformers. */
function openTemplate(path: string): ChatTemplate | TemplateFailure {
  if (!existsSync(path)) {
    throw new R3Error(
      'text',
      'bad-file',
      `${path}: expected a model folder or a .jinja file, got nothing at this path`,
    );
  }
  try {
    if (statSync(path).isDirectory()) return loadChatTemplate(path);
    return makeChatTemplate(readTemplateFile(path), path);
  } catch (error) {
    if (error instanceof TemplateFailure) return error;
    throw error;
  }
}

function readTemplateFile(path: string): string {
  try {
    return decodeUtf8(readFileSync(path));
  } catch (cause) {
    throw new R3Error('text', 'bad-file', `${path}: ${messageOf(cause)}`, { cause });
  }
}

/** A time without a zone is taken as it is. The clock shows local time, as datetime.now() does. */
function parseNow(text: string | undefined): Date {
  if (text === undefined) {
    const clock = new Date();
    return new Date(clock.getTime() - clock.getTimezoneOffset() * 60_000);
  }
  const hasZone = /(?:Z|[+-]\d\d:?\d\d)$/i.test(text) || /^\d{4}(-\d\d){0,2}$/.test(text);
  const time = new Date(hasZone ? text : `${text.replace(' ', 'T')}Z`);
  if (Number.isNaN(time.getTime())) {
    throw usageError(`--now: expected a time such as 2026-01-31T12:00:00Z, got ${JSON.stringify(text)}`);
  }
  return time;
}
