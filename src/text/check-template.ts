/**
 * Which conversations a chat template can be used for answer by answer: the check before any weight moves.
 *
 * A template that drops earlier thinking, or moves a system message, shows the model another past than the one that
 * its answer was sampled from. It is refused for what it does not hold for, never repaired in silence.
 */
import { R3Error } from '../lib/errors.ts';
import type { ChatFormat } from './chat.ts';
import { PROBE, tryContinue } from './continuation.ts';
import type { Message } from './message.ts';

export interface TemplateCheck {
  /** Holds for plain answers: user, assistant, user, assistant, user, and the answer to be sampled. */
  prefixPreserving: boolean;
  /** It holds with a system message first, too, and the template shows that message. */
  takesSystem: boolean;
  /** It holds for answers with a <think> block. All that matters for a model that always writes one. */
  keepsThinking: boolean;
  /** One sentence for each that does not hold; says where the renderings part. */
  detail: string;
}

const SYSTEM: Message = { role: 'system', content: 'The standing order.' };
/** Tries the order of turns of the method on fixed messages. For the audit before any weight moves. */
export function checkTemplate(format: Pick<ChatFormat, 'render'>): TemplateCheck {
  const plain = whyNot(format, PROBE);
  const system = whyNot(format, [SYSTEM, ...PROBE]);
  const thinking = whyNot(format, withThinking(format));
  const sentences = [
    plain && `Plain answers: ${plain}`,
    system && `With a system message: ${system}`,
    thinking && `Answers with a <think> block: ${thinking}`,
  ];
  return {
    prefixPreserving: plain === undefined,
    takesSystem: system === undefined,
    keepsThinking: thinking === undefined,
    detail: sentences.filter((sentence) => sentence !== undefined).join('\n'),
  };
}

/** In a few words: what a conversation may hold when its earlier turns must stay the ids that were sampled. */
export function whatTemplateTakes(check: TemplateCheck): string {
  const takes = [
    check.prefixPreserving && 'plain answers',
    check.prefixPreserving && check.takesSystem && 'a system message',
    check.keepsThinking && 'answers with <think>',
  ].filter((part) => part !== false);
  return takes.length === 0
    ? 'not prefix-preserving: conversations of several turns are refused'
    : `prefix-preserving with ${takes.join(', ')}${takes.length < 3 ? '; other conversations of several turns are refused' : ''}`;
}

/** Why a conversation cannot be sampled answer by answer; undefined when it can. */
function whyNot(format: Pick<ChatFormat, 'render'>, messages: readonly Message[]): string | undefined {
  for (const [i, message] of messages.entries()) {
    if (message.role !== 'assistant') continue;
    const before = messages.slice(0, i);
    const next = messages.slice(i + 1, i + 2);
    const between = tryContinue((shown) => format.render(shown), before, message.content, next);
    if (!between.ok) return between.why;
    const rendering = format.render([...before, message, ...next]);
    const lost = [...before, ...next].find(
      ({ role, content }) => role !== 'assistant' && !rendering.includes(content),
    );
    if (lost)
      return `chat template: expected the ${lost.role} message to be shown, got a rendering without it.`;
  }
  return undefined;
}

/** The probe with a <think> block in each answer; some templates open the block in the answer's header. */
function withThinking(format: Pick<ChatFormat, 'render'>): Message[] {
  const thought = opensThinking(format) ? 'Well.\n</think>\n\n' : '<think>\nWell.\n</think>\n\n';
  return PROBE.map((message) =>
    message.role === 'assistant' ? { ...message, content: thought + message.content } : message,
  );
}

function opensThinking(format: Pick<ChatFormat, 'render'>): boolean {
  try {
    return format.render(PROBE.slice(0, 1)).trimEnd().endsWith('<think>');
  } catch (error) {
    // A template that renders nothing fails the other checks, with its reason.
    if (error instanceof R3Error) return false;
    throw error;
  }
}
