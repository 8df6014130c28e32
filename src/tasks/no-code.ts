/**
 * A task without code: a JSON file with the texts around a row and a verifier, made into a task with `defineTask`.
 *
 * Texts are templates: `{field}` is the value of a field of the row, `{{field}}` is those very signs; all other braces
 * stay as they are. The verifier is one of: an exact match, a regular expression, a JSON Schema, a command, an HTTP
 * service (files in `verify/`). Nothing in the file is run as code but the command. `docs/custom-tasks.md` has examples.
 */
import { existsSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { closest } from '../lib/closest.ts';
import { R3Error, messageOf } from '../lib/errors.ts';
import { readTextFile } from '../lib/files.ts';
import { explainIssue, parseJsonObject } from '../lib/json.ts';
import type { Verdict } from '../method/episode.ts';
import type { Task } from '../method/task.ts';
import { defineTask, REFLECT, type TaskRow } from './define.ts';
import { checkCommandRow, makeCommandVerifier } from './verify/command.ts';
import { makeHttpVerifier } from './verify/http.ts';
import { extractLast, matchExactly, matchPattern, parsePattern } from './verify/pattern.ts';
import { makeSchemaVerifier } from './verify/schema.ts';

/** Environment variables: what commands run with, and where headers find their secrets. */
export type TaskEnv = Readonly<Record<string, string | undefined>>;

const MAX_FILE_BYTES = 1 << 22;
/** A checker that starts an interpreter takes a second on a busy machine. */
const COMMAND_DEFAULTS = { timeoutMs: 10_000, maxOutputBytes: 65_536, concurrency: 4 } as const;
const HTTP_DEFAULTS = { timeoutMs: 10_000, concurrency: 8 } as const;
const FIELD = /\{\{([A-Za-z_][\w-]*)\}\}|\{([A-Za-z_][\w-]*)\}/g;

const text = z.string();
const count = z.int().positive();
const extract = { extract: text.optional() };

const VERIFIERS = {
  exact: z.strictObject({
    exact: text,
    trim: z.boolean().default(true),
    ignoreCase: z.boolean().default(false),
    ...extract,
  }),
  regex: z.strictObject({ regex: text, flags: text.default(''), ...extract }),
  jsonSchema: z.strictObject({
    jsonSchema: z.union([text, z.record(text, z.unknown())]),
    ...extract,
  }),
  command: z.strictObject({
    command: z.array(text).min(1),
    timeoutMs: count.default(COMMAND_DEFAULTS.timeoutMs),
    maxOutputBytes: count.default(COMMAND_DEFAULTS.maxOutputBytes),
    concurrency: count.default(COMMAND_DEFAULTS.concurrency),
  }),
  http: z.strictObject({
    http: z.strictObject({
      url: text,
      headers: z.record(text, text).default({}),
      timeoutMs: count.default(HTTP_DEFAULTS.timeoutMs),
      concurrency: count.default(HTTP_DEFAULTS.concurrency),
    }),
  }),
} as const;
type VerifierKind = keyof typeof VERIFIERS;
const KINDS = Object.keys(VERIFIERS) as VerifierKind[];

const schema = z.strictObject({
  name: text,
  prompt: text.min(1).default('{prompt}'),
  promptAgain: text.min(1).optional(),
  reflect: text.min(1).optional(),
  /** The field that names a problem. */
  id: text.min(1).optional(),
  /** Answers that pass and answers that fail, as templates. */
  good: z.array(text).optional(),
  bad: z.array(text).optional(),
  verifier: z.record(text, z.unknown()),
});
type NoCodeTask = z.infer<typeof schema>;

type Verify = (row: TaskRow, answer: string) => Verdict | Promise<Verdict>;

/** What a verifier brings: how it judges, the templates that it fills, the files that it reads, a good answer. */
interface Verifier {
  verify: Verify;
  templates: readonly string[];
  files: readonly string[];
  good?: string;
  /** Throws an Error for a row that cannot be handed over. */
  checkRow?: (row: TaskRow) => void;
}

/**
 * The task of a JSON file, and every file that it is made of. Throws R3Error `bad-file` for a file that is not JSON,
 * `bad-task` that names the key, what was expected and what was got.
 */
export function loadNoCodeTask(path: string, env?: TaskEnv): { task: Task; files: string[] } {
  let value: Record<string, unknown>;
  try {
    value = parseJsonObject(readTextFile(path, MAX_FILE_BYTES));
  } catch (cause) {
    throw new R3Error('task', 'bad-file', `${path}: ${messageOf(cause)}`, { cause });
  }
  try {
    return makeNoCodeTask(value, dirname(path), path, env);
  } catch (cause) {
    throw new R3Error('task', 'bad-task', `${path}: ${messageOf(cause)}`, { cause });
  }
}

function makeNoCodeTask(
  value: Record<string, unknown>,
  folder: string,
  path: string,
  env: TaskEnv | undefined,
): { task: Task; files: string[] } {
  const spec = parse(schema, value);
  const verifier = makeVerifier(spec.verifier, folder, env);
  const good = spec.good ?? (verifier.good === undefined ? [] : [verifier.good]);
  const bad = spec.bad ?? [''];
  const templates = [spec.prompt, spec.promptAgain ?? '', ...good, ...bad, ...verifier.templates];
  const task = defineTask({
    name: spec.name,
    load: (row) => {
      for (const template of templates) fill(template, row);
      verifier.checkRow?.(row);
      return { row, id: idIn(row, spec) };
    },
    prompt: ({ row }) => fill(spec.prompt, row),
    verify: ({ row, id }, answer) => verifier.verify({ ...row, id }, answer),
    known: ({ row }) => [
      ...good.map((template) => ({ answer: fill(template, row), ok: true })),
      ...bad.map((template) => ({ answer: fill(template, row), ok: false })),
    ],
    promptAgain: ({ row }) => fill(spec.promptAgain ?? spec.prompt, row),
    reflect: spec.reflect ?? REFLECT,
  });
  return { task, files: [path, ...verifier.files] };
}

/** undefined leaves the choice to `defineTask`: the row's own id, else its place. */
function idIn(row: TaskRow, { id }: NoCodeTask): unknown {
  if (id === undefined) return undefined;
  const value = row[id];
  if ((typeof value === 'string' && value !== '') || typeof value === 'number') return value;
  throw new Error(
    `${id}: expected a text or a number that names the row, got ${JSON.stringify(value) ?? 'nothing'}`,
  );
}

/** A template with the fields of a row. Throws an Error for a field that the row lacks. */
export function fill(template: string, row: TaskRow): string {
  return template.replaceAll(FIELD, (_, escaped: string | undefined, field: string | undefined) => {
    if (field === undefined) return `{${escaped}}`;
    const value = Object.hasOwn(row, field) ? row[field] : undefined;
    if (value === undefined || value === null) {
      const near = closest(field, Object.keys(row));
      const names = Object.keys(row).join(', ') || 'none';
      throw new Error(
        `${field}: expected a field of the row, which has ${names}${near === undefined ? '' : `; did you mean ${near}?`}`,
      );
    }
    return typeof value === 'string' ? value : JSON.stringify(value);
  });
}

function makeVerifier(value: Record<string, unknown>, folder: string, env: TaskEnv | undefined): Verifier {
  const [kind, ...more] = KINDS.filter((known) => known in value);
  if (kind === undefined || more.length > 0) {
    const [near] = Object.keys(value).flatMap((key) => closest(key, KINDS) ?? []);
    const got = Object.keys(value).join(', ') || 'no key';
    const hint = kind === undefined && near !== undefined ? `; did you mean ${near}?` : '';
    throw new Error(`verifier: expected one of ${KINDS.join(', ')}, got ${got}${hint}`);
  }
  switch (kind) {
    case 'exact': {
      const { exact, extract: pattern, ...how } = parse(VERIFIERS.exact, value, 'verifier');
      const find = parseExtract(pattern);
      return {
        verify: (row, answer) => onPart(find(answer), (part) => matchExactly(fill(exact, row), part, how)),
        templates: [exact],
        files: [],
        ...(pattern === undefined ? { good: exact } : {}),
      };
    }
    case 'regex': {
      const { regex, flags, extract: pattern } = parse(VERIFIERS.regex, value, 'verifier');
      const find = parseExtract(pattern);
      const compiled = parsePattern('verifier.regex', regex, flags);
      return {
        verify: (_, answer) => onPart(find(answer), (part) => matchPattern(compiled, part)),
        templates: [],
        files: [],
      };
    }
    case 'jsonSchema': {
      const { jsonSchema, extract: pattern } = parse(VERIFIERS.jsonSchema, value, 'verifier');
      const find = parseExtract(pattern);
      const file = typeof jsonSchema === 'string' ? resolve(folder, jsonSchema) : undefined;
      const judge = inPlace('verifier.jsonSchema', () =>
        makeSchemaVerifier(
          file === undefined ? jsonSchema : parseJsonObject(readTextFile(file, MAX_FILE_BYTES)),
        ),
      );
      return {
        verify: (_, answer) => onPart(find(answer), judge),
        templates: [],
        files: file === undefined ? [] : [file],
      };
    }
    case 'command': {
      const options = parse(VERIFIERS.command, value, 'verifier');
      return {
        verify: env === undefined ? unable : makeCommandVerifier({ ...options, cwd: folder, env }),
        templates: [],
        // The program is rarely a file of the task; what it is given to run often is.
        files: options.command.map((part) => resolve(folder, part)).filter(isFile),
        checkRow: checkCommandRow,
      };
    }
    case 'http': {
      const { http } = parse(VERIFIERS.http, value, 'verifier');
      return {
        verify: env === undefined ? unable : inPlace('verifier', () => makeHttpVerifier({ ...http, env })),
        templates: [],
        files: [],
      };
    }
    default:
      return kind satisfies never;
  }
}

const unable: Verify = () => {
  throw new Error('expected an environment to judge in, got none');
};

/** What finds the part of an answer that is judged: all of it, or the last match of a pattern. */
function parseExtract(pattern: string | undefined): (answer: string) => string | Verdict {
  if (pattern === undefined) return (answer) => answer;
  const compiled = parsePattern('verifier.extract', pattern);
  return (answer) => extractLast(compiled, answer);
}

function onPart(found: string | Verdict, judge: (part: string) => Verdict): Verdict {
  return typeof found === 'string' ? judge(found) : found;
}

function inPlace<T>(where: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw new Error(`${where}: ${messageOf(cause)}`, { cause });
  }
}

function isFile(path: string): boolean {
  return existsSync(path) && statSync(path).isFile();
}

/** The value as the schema has it. Throws an Error that names the key, and for an unknown key the one that was meant. */
function parse<S extends z.ZodObject>(shape: S, value: unknown, where = ''): z.infer<S> {
  const parsed = shape.safeParse(value);
  if (parsed.success) return parsed.data;
  const { issues } = parsed.error;
  const [unknown] = issues.flatMap((issue) => (issue.code === 'unrecognized_keys' ? [issue] : []));
  const path = where === '' ? '' : `${where}.`;
  if (unknown === undefined) throw new Error(`${path}${explainIssue(issues, value)}`);
  const [key = ''] = unknown.keys;
  const known = knownKeys(shape, unknown.path);
  const near = closest(key, known);
  throw new Error(
    `${path}${[...unknown.path, key].join('.')}: expected one of ${known.join(', ')}, got an unknown key${near === undefined ? '' : `; did you mean ${near}?`}`,
  );
}

function knownKeys(shape: z.ZodObject, path: readonly PropertyKey[]): string[] {
  const [key, ...rest] = path;
  const inner: unknown = key === undefined ? undefined : shape.shape[String(key)];
  return inner instanceof z.ZodObject ? knownKeys(inner, rest) : Object.keys(shape.shape);
}
