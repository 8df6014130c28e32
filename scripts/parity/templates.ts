/**
 * Renders every template of a folder over many conversations, with transformers and with r3, and compares.
 *
 *   node scripts/run-ts.mjs scripts/parity/templates.ts FOLDER [PYTHON]
 *
 * FOLDER holds *.jinja files, at any depth. PYTHON (default: R3_PYTHON, else python3) has transformers 5.17. Prints each difference
 * and a count; the exit code is 1 when there is one.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { R3Error } from '../../src/lib/errors.ts';
import { parseExactJson } from '../../src/text/jinja/json.ts';
import {
  TemplateFailure,
  makeChatTemplate,
  type ChatTemplate,
  type MessageFields,
} from '../../src/text/template.ts';

const NOW = '2026-02-03T04:05:06';
const SPECIALS = { bos_token: '<s>', eos_token: '</s>', pad_token: '<pad>', unk_token: '<unk>' };
const SHOWN = 40;

const [folder, python = process.env['R3_PYTHON'] ?? 'python3'] = process.argv.slice(2);
if (folder === undefined) throw new Error('usage: templates.ts FOLDER [PYTHON]');
const script = join(import.meta.dirname, 'templates.py');
const result = spawnSync(python, [script, folder, NOW], { encoding: 'utf8', maxBuffer: 1 << 30 });
if (result.status !== 0) throw new Error(`templates.py: ${result.stderr}`);

const templates = new Map<string, ChatTemplate | TemplateFailure>();
let same = 0;
let different = 0;
for (const line of result.stdout.trimEnd().split('\n')) {
  const expected = JSON.parse(line) as {
    template: string;
    text?: string;
    error?: string;
    why?: string;
    assistantSpans?: unknown;
  };
  const input = (parseExactJson(line) as Map<string, unknown>).get('input') as Map<string, unknown>;
  const got = render(load(expected.template), input);
  const isSame =
    got.text === expected.text &&
    got.error === expected.error &&
    JSON.stringify(got.assistantSpans ?? []) === JSON.stringify(expected.assistantSpans ?? []);
  if (isSame) same += 1;
  else if (++different <= SHOWN) report(expected, got, line);
}
console.log(`${same} of ${same + different} renderings are the same, over ${templates.size} templates`);
if (different > 0) process.exitCode = 1;

function load(name: string): ChatTemplate | TemplateFailure {
  const known = templates.get(name);
  if (known) return known;
  let made: ChatTemplate | TemplateFailure;
  try {
    made = makeChatTemplate(readFileSync(join(folder ?? '', name), 'utf8'), name, SPECIALS);
  } catch (error) {
    if (!(error instanceof TemplateFailure)) throw error;
    made = error;
  }
  templates.set(name, made);
  return made;
}

interface Got {
  text?: string;
  error?: string;
  why?: string;
  assistantSpans?: unknown;
}

function render(template: ChatTemplate | TemplateFailure, input: Map<string, unknown>): Got {
  if (template instanceof R3Error) return { error: template.kind, why: template.why };
  try {
    return template.render({
      messages: input.get('messages') as MessageFields[],
      tools: (input.get('tools') ?? null) as unknown[] | null,
      documents: (input.get('documents') ?? null) as unknown[] | null,
      addGenerationPrompt: input.get('add_generation_prompt') === true,
      continueFinalMessage: input.get('continue_final_message') === true,
      variables: (input.get('variables') ?? new Map()) as Map<string, unknown>,
      now: new Date(`${NOW}Z`),
    });
  } catch (error) {
    if (error instanceof TemplateFailure) return { error: error.kind, why: error.why };
    throw error;
  }
}

function report(expected: Got & { template: string }, got: Got, line: string): void {
  const [a = '', b = ''] = [expected.text, got.text];
  let at = 0;
  while (at < a.length && a[at] === b[at]) at += 1;
  const show = (each: Got, text: string): string =>
    each.text === undefined
      ? `${each.error}: ${each.why}`
      : `${JSON.stringify(text.slice(Math.max(0, at - 30), at + 60))} ${JSON.stringify(each.assistantSpans ?? [])}`;
  console.log(
    `${expected.template}\n  input     ${line.slice(0, 300)}\n  expected  ${show(expected, a)}\n  got       ${show(got, b)}`,
  );
}
