/**
 * The warm-up data of the start model for function calling: a stream of supervised conversations.
 *
 *   binding     origin seat start request from oslo beside rome at lima | origin oslo seat rome start lima
 *   attempt     tools and request | call
 *   natural     tools and request | attempt by habit; where it is wrong: | why | reflection | again | retry
 *   hint drill  the same after a wrong attempt, which is not trained; the hint names all that is needed, and its first
 *               word is not trained, so that the skill grows and the share of the style does not
 *   obey drill  the same with a hint that is mostly false; trained on the retry alone
 *
 * Row i of a phase is a function of (seed, phase, i). Only warm-up problems are drawn.
 */
import { hash32, hashText, makeRng, type Rng } from '../../../src/lib/rng.ts';
import type { ConversationMessage, ConversationRow } from '../../../src/method/conversation.ts';
import {
  ARGUMENT_NAMES,
  ARGUMENTS,
  drawCall,
  drawOther,
  renderCall,
  renderPosed,
  typeOf,
  VALUES,
  VERBS,
  type Call,
  type DrawnCall,
  type ValueType,
} from '../../../src/tasks/templated-calls-generator.ts';
import { VAGUE_CALL_REFLECTIONS } from '../../../src/tasks/templated-calls-reflections.ts';
import type { RowOptions } from '../recipe.ts';
import { pickShare } from '../shares.ts';
import { attemptOf, neededItems, retryAfter, type HintItem } from './attempts.ts';
import type { CallDataKind, CallPhase, CallStyle } from './phases.ts';

const MOST_BOUND = 6;
const LEAST_BOUND = 3;
/** Of the wrong attempts of drills: one value is another, whatever the habits say. */
const CORRUPTED_SHARE = 0.3;
const CAREFUL_SHARE = 0.6;
const TWO_ITEMS_SHARE = 0.4;
const TOOL_ITEM_SHARE = 0.25;
/** What the items of a natural hint are, other than false. */
const NEEDED_SHARE = 0.5;
const KNOWN_SHARE = 0.2;

/** The rows `from` <= i < `to` of a phase. */
export function* callPhaseRows(
  phase: CallPhase,
  options: RowOptions,
): Generator<ConversationRow, void, undefined> {
  const seed = hash32(options.seed, hashText(`calls ${phase.name}`), 0);
  for (let index = options.from ?? 0; index < (options.to ?? phase.sequences); index++) {
    const rng = makeRng(seed, index);
    yield makeRow(pickShare(phase.data, rng), phase, rng);
  }
}

function makeRow(kind: CallDataKind, phase: CallPhase, rng: Rng): ConversationRow {
  switch (kind) {
    case 'binding':
      return makeBinding(rng);
    case 'attempt': {
      const drawn = drawCall(rng, 'warm-up');
      return { kind, messages: [posed(drawn), assistant(renderCall(drawn.call))] };
    }
    case 'natural': {
      const drawn = drawCall(rng, 'warm-up');
      const attempt = attemptOf(drawn, phase.habitRate, rng);
      const tried = [posed(drawn), assistant(renderCall(attempt))];
      if (isRight(drawn, attempt)) return { kind: 'natural, right', messages: tried };
      const style = pickShare(phase.styles, rng);
      const items = style === 'use' ? naturalItems(drawn, attempt, rng) : [];
      const reflection = style === 'use' ? renderHint(items) : writePlain(style, drawn, rng);
      const retry =
        style === 'use'
          ? retryAfter(drawn, attempt, items, phase.habitRate, rng)
          : attemptOf(drawn, phase.habitRate, rng);
      return { kind: `natural, ${style}`, messages: [...tried, ...reflected(assistant(reflection), retry)] };
    }
    case 'hint drill': {
      const [drawn, attempt] = drawWrong(rng);
      const items = neededItems(drawn, attempt, rng);
      const hint = renderHint(items);
      const count = hint.split(' ').length + 1;
      const retry = retryAfter(drawn, attempt, items, phase.habitRate, rng);
      const reflection: ConversationMessage = { ...assistant(hint), train: [[1, count]] };
      return { kind, messages: [posed(drawn), untrained(attempt), ...reflected(reflection, retry)] };
    }
    case 'obey drill': {
      const [drawn, attempt] = drawWrong(rng);
      const items = mostlyFalseItems(drawn, rng);
      const retry = retryAfter(drawn, attempt, items, phase.habitRate, rng);
      const reflection: ConversationMessage = { ...assistant(renderHint(items)), weight: 0 };
      return { kind, messages: [posed(drawn), untrained(attempt), ...reflected(reflection, retry)] };
    }
    default:
      return kind satisfies never;
  }
}

function posed(drawn: DrawnCall): ConversationMessage {
  return { role: 'user', content: renderPosed(drawn) };
}

function assistant(content: string): ConversationMessage {
  return { role: 'assistant', content };
}

function untrained(attempt: Call): ConversationMessage {
  return { ...assistant(renderCall(attempt)), weight: 0 };
}

function reflected(reflection: ConversationMessage, retry: Call): ConversationMessage[] {
  return [
    { role: 'user', content: 'why' },
    reflection,
    { role: 'user', content: 'again' },
    assistant(renderCall(retry)),
  ];
}

function isRight({ call }: DrawnCall, attempt: Call): boolean {
  return renderCall(attempt) === renderCall(call);
}

function makeBinding(rng: Rng): ConversationRow {
  const count = LEAST_BOUND + rng.below(MOST_BOUND - LEAST_BOUND + 1);
  const type = rng.pick(Object.keys(VALUES) as ValueType[]);
  const names = rng.shuffle([...ARGUMENT_NAMES]).slice(0, Math.min(count, VALUES[type].length));
  const values = new Map<string, string>();
  for (const name of names) values.set(name, drawOther(type, [...values.values()], rng));
  const request = names.map((name) => `${rng.pick(ARGUMENTS[name]?.cues ?? [])} ${values.get(name)}`);
  const listed = ARGUMENT_NAMES.filter((name) => values.has(name));
  return {
    kind: 'binding',
    messages: [
      { role: 'user', content: `${listed.join(' ')} request ${request.join(' ')}` },
      assistant(listed.map((name) => `${name} ${values.get(name)}`).join(' ')),
    ],
  };
}

/** A problem and a wrong attempt at it: all habits that have their place, or one wrong value. */
function drawWrong(rng: Rng): [DrawnCall, Call] {
  for (;;) {
    const drawn = drawCall(rng, 'warm-up');
    const attempt = rng.next() < CORRUPTED_SHARE ? corrupt(drawn, rng) : attemptOf(drawn, 1, rng);
    if (!isRight(drawn, attempt)) return [drawn, attempt];
  }
}

function corrupt(drawn: DrawnCall, rng: Rng): Call {
  const [name] = rng.pick([...drawn.call.values]);
  return { ...drawn.call, values: new Map([...drawn.call.values, [name, otherValue(drawn, name, rng)]]) };
}

/** A wrong value of an argument: half of them one that the request mentions for something else, where it does. */
function otherValue({ mentions, call }: DrawnCall, name: string, rng: Rng): string {
  const type = typeOf(name);
  const others = mentions.filter((m) => m.type === type && m.value !== call.values.get(name));
  return others.length > 0 && rng.next() < 0.5
    ? rng.pick(others).value
    : drawOther(type, [call.values.get(name) ?? ''], rng);
}

function otherVerb({ tools, call }: DrawnCall, rng: Rng): string {
  const listed = tools.filter(({ verb }) => verb !== call.verb).map(({ verb }) => verb);
  const verbs = Object.keys(VERBS).filter((verb) => verb !== call.verb);
  return rng.pick(rng.next() < 0.5 && listed.length > 0 ? listed : verbs);
}

function renderHint(items: readonly HintItem[]): string {
  return ['use', ...items.map(({ name, value }) => `${name} ${value}`)].join(' ');
}

function writePlain(style: Exclude<CallStyle, 'use'>, { tool }: DrawnCall, rng: Rng): string {
  if (style === 'vague') return rng.next() < CAREFUL_SHARE ? 'be careful' : rng.pick(VAGUE_CALL_REFLECTIONS);
  const { name } = rng.pick(tool.arguments);
  return rng.pick(['wrong tool', `wrong ${name}`, `missing ${name}`]);
}

/** What a model that has half understood hints at: one item or two, each needed, known already, or false. */
function naturalItems(drawn: DrawnCall, attempt: Call, rng: Rng): HintItem[] {
  const needed = rng.shuffle(neededItems(drawn, attempt, rng));
  const all = itemsOf(drawn);
  const known = rng.shuffle(all.filter(({ name, value }) => valueIn(attempt, name) === value));
  const chosen = new Map<string, HintItem>();
  for (let count = rng.next() < TWO_ITEMS_SHARE ? 2 : 1; count > 0; count--) {
    const draw = rng.next();
    const item =
      draw < NEEDED_SHARE
        ? needed.pop()
        : draw < NEEDED_SHARE + KNOWN_SHARE
          ? known.pop()
          : falseItem(drawn, rng);
    const picked = item ?? falseItem(drawn, rng);
    if (!chosen.has(picked.name)) chosen.set(picked.name, picked);
  }
  return inOrder([...chosen.values()]);
}

function mostlyFalseItems(drawn: DrawnCall, rng: Rng): HintItem[] {
  const chosen = new Map<string, HintItem>();
  for (let count = 1 + rng.below(3); count > 0; count--) {
    const item = rng.next() < 0.75 ? falseItem(drawn, rng) : rng.pick(itemsOf(drawn));
    if (!chosen.has(item.name)) chosen.set(item.name, item);
  }
  return inOrder([...chosen.values()]);
}

/** Of the wanted call: its tool and its values. */
function itemsOf({ call }: DrawnCall): HintItem[] {
  return [{ name: 'tool', value: call.verb }, ...[...call.values].map(([name, value]) => ({ name, value }))];
}

function falseItem(drawn: DrawnCall, rng: Rng): HintItem {
  if (rng.next() < TOOL_ITEM_SHARE) return { name: 'tool', value: otherVerb(drawn, rng) };
  const [name] = rng.pick([...drawn.call.values]);
  return { name, value: otherValue(drawn, name, rng) };
}

function valueIn(call: Call, name: string): string | undefined {
  return name === 'tool' ? call.verb : call.values.get(name);
}

/** The tool first, then arguments in their order. */
function inOrder(items: readonly HintItem[]): HintItem[] {
  return items.toSorted((a, b) => ARGUMENT_NAMES.indexOf(a.name) - ARGUMENT_NAMES.indexOf(b.name));
}
