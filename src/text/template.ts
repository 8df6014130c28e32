/**
 * A chat template: messages, tools and variables to text, as transformers renders them.
 *
 * The template sees `messages`, `tools` and `documents` (None when absent), `add_generation_prompt`, the named special
 * tokens and the caller's variables, under sandboxed Jinja2 with trim_blocks, lstrip_blocks and loop controls
 * (`jinja/`). It knows no clock: `now` is given. The published behaviour is that of `apply_chat_template` in
 * transformers 5.17; the sentences of its errors are not.
 */
import { RaisedError, TemplateError } from './jinja/errors.ts';
import { parseTemplate, type Template } from './jinja/parser.ts';
import { renderTemplate } from './jinja/render.ts';
import { textLength, toValue, type Value } from './jinja/values.ts';
import { trim, trimEnd } from './jinja/white-space.ts';
import { R3Error, messageOf } from '../lib/errors.ts';

/** A message as templates see it: `role`, mostly `content`, and what else a template reads. */
export type MessageFields = Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>;

export interface RenderInput {
  messages: readonly MessageFields[];
  tools?: readonly unknown[] | null;
  documents?: readonly unknown[] | null;
  /** Whether the header of the assistant's turn follows. Default: no. */
  addGenerationPrompt?: boolean;
  /** Whether the text ends where the content of the last message ends, so that a model goes on with it. */
  continueFinalMessage?: boolean;
  /** What the template sees beside these, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>;
  /** What strftime_now shows, in UTC. */
  now: Date;
}

export interface Rendered {
  text: string;
  /**
   * Where the template marks what the assistant wrote with `generation` blocks: start and end of each, in Unicode
   * code points of the text, as transformers counts. Absent when the template has no such blocks.
   */
  assistantSpans?: [number, number][];
}

export interface ChatTemplate {
  /** What errors call it. */
  name: string;
  /** Throws TemplateFailure. */
  render(input: RenderInput): Rendered;
}

/** R3Error `bad-template` of a template that cannot be read, or not rendered with these messages. */
export class TemplateFailure extends R3Error {
  /** `raised`: the template itself refused, by raise_exception. */
  readonly kind: 'raised' | 'template';
  /** The reason without the name of the template. */
  readonly why: string;

  constructor(name: string, kind: 'raised' | 'template', why: string, what: string, cause?: unknown) {
    super('text', 'bad-template', `${name}: expected ${what}, got: ${why}`, { cause });
    this.kind = kind;
    this.why = why;
  }
}

/** transformers' own mark, which templates can see: it ends in a blank that they may trim. */
const CONTINUE_TAG = 'CONTINUE_FINAL_MESSAGE_TAG ';

/** `specials`: the named special tokens, such as bos_token. Throws TemplateFailure when it cannot be parsed. */
export function makeChatTemplate(
  source: string,
  name: string,
  specials: Readonly<Record<string, string>> = {},
): ChatTemplate {
  let template: Template;
  try {
    template = parseTemplate(source);
  } catch (error) {
    throw failureOf(name, error, 'a Jinja template');
  }
  return {
    name,
    render: (input) => {
      try {
        return renderInput(template, source, specials, input);
      } catch (error) {
        throw failureOf(name, error, `it to render the roles ${input.messages.map(roleOf).join(', ')}`);
      }
    },
  };
}

function failureOf(name: string, error: unknown, what: string): TemplateFailure {
  const isStackFull = error instanceof RangeError;
  if (!(error instanceof TemplateError) && !isStackFull) throw error;
  const why = isStackFull ? 'maximum recursion depth exceeded' : messageOf(error);
  return new TemplateFailure(name, error instanceof RaisedError ? 'raised' : 'template', why, what, error);
}

function roleOf(message: MessageFields): string {
  return String(message instanceof Map ? message.get('role') : (message as { role?: unknown }).role);
}

function renderInput(
  template: Template,
  source: string,
  specials: Readonly<Record<string, string>>,
  input: RenderInput,
): Rendered {
  const { continueFinalMessage = false, addGenerationPrompt = false } = input;
  if (input.messages.length === 0) throw new TemplateError('expected at least one message, got none');
  if (continueFinalMessage && addGenerationPrompt) {
    throw new TemplateError('expected to continue the final message or to begin a new one, got both');
  }
  const messages = input.messages.map(toValue);
  const final = continueFinalMessage ? markFinal(messages, source) : undefined;
  const { variables = {} } = input;
  const given = variables instanceof Map ? [...variables] : Object.entries(variables);
  const context = new Map<string, Value>([
    ...Object.entries(specials),
    ...given.map(([key, value]) => [String(key), toValue(value)] as const),
    ['messages', messages],
    ['tools', toValue(input.tools ?? null)],
    ['documents', toValue(input.documents ?? null)],
    ['add_generation_prompt', addGenerationPrompt],
  ]);
  const { text, spans } = renderTemplate(template, context, input.now);
  const shown = final === undefined ? text : cutAfter(final, text);
  return template.hasGeneration ? { text: shown, assistantSpans: within(spans, shown) } : { text: shown };
}

/** Puts the tag after the content of the last message, or after the last text of its parts. Returns that text. */
function markFinal(messages: readonly Value[], source: string): string {
  const message = messages.at(-1);
  const content = message instanceof Map ? (message.get('content') ?? null) : null;
  if (!(message instanceof Map) || content === null) {
    throw new TemplateError('expected content in the final message to continue, got none');
  }
  if (!source.includes('content'))
    throw new TemplateError('expected a template that shows content, got one that does not');
  if (typeof content === 'string') {
    message.set('content', content + CONTINUE_TAG);
    return content;
  }
  if (Array.isArray(content)) {
    const part = content.findLast(
      (each): each is Map<Value, Value> => each instanceof Map && each.has('text'),
    );
    const text = part?.get('text');
    if (part !== undefined && typeof text === 'string') {
      part.set('text', text + CONTINUE_TAG);
      return text;
    }
  }
  throw new TemplateError('expected a text in the final message to continue, got none');
}

function cutAfter(final: string, text: string): string {
  const tag = CONTINUE_TAG.trimEnd();
  const at = text.lastIndexOf(tag);
  if (at < 0 || !text.includes(trim(final))) {
    throw new TemplateError(
      'expected the final message in the text, got a template that leaves it out or changes it',
    );
  }
  const before = text.slice(0, at);
  // Where the template trimmed the tag's blank, it trims the end of the message, too.
  return text.startsWith(CONTINUE_TAG, at) ? before : trimEnd(before);
}

/** Spans as far as a cut text goes. */
function within(spans: readonly [number, number][], text: string): [number, number][] {
  const length = textLength(text);
  return spans.filter(([start]) => start <= length).map(([start, end]) => [start, Math.min(end, length)]);
}
