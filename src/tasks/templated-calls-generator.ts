/**
 * Function calls from templates: tools, requests in words, and the one call that each request asks for.
 *
 *   tools    send train origin dest ; book room city nights ? ; send gift guest item
 *   request  last was lima ship rail to rome from oslo
 *   call     send train origin oslo dest rome
 *
 * A tool is a verb and a noun with two or three of the noun's arguments, in the order of `ARGUMENTS`; `?` marks an
 * optional one. A request names verb and noun in other words, and each argument by a cue right before its value.
 * `last was X` is of no concern. The hash of a call says which split its problems belong to, so splits never share a
 * call; tools of `unseen-tools` are in no other split. Everything is a function of the seed.
 */
import { R3Error } from '../lib/errors.ts';
import { hash32, hashText, makeRng, type Rng } from '../lib/rng.ts';

const words = (text: string): string[] => text.split(' ');

/** Verbs of tools, and the words that requests have for them. */
export const VERBS: Readonly<Record<string, readonly string[]>> = {
  book: words('reserve arrange secure'),
  cancel: words('scrap undo revoke'),
  send: words('ship dispatch forward'),
  check: words('inspect review verify'),
  find: words('locate seek discover'),
  change: words('modify adjust alter'),
  buy: words('purchase order acquire'),
  sell: words('trade offer auction'),
  rent: words('hire lease borrow'),
  track: words('follow monitor watch'),
};

/** Nouns of tools, the words that requests have for them, and the arguments that their tools draw from. */
export const NOUNS: Readonly<Record<string, { requested: readonly string[]; pool: readonly string[] }>> = {
  train: { requested: words('rail express'), pool: words('origin dest date seat') },
  flight: { requested: words('plane airfare'), pool: words('origin dest date until') },
  room: { requested: words('hotel suite'), pool: words('city date until nights') },
  table: { requested: words('restaurant dinner'), pool: words('start end guest count') },
  car: { requested: words('vehicle sedan'), pool: words('origin dest size color') },
  bike: { requested: words('bicycle cycle'), pool: words('city start end size') },
  ticket: { requested: words('pass entry'), pool: words('date sender guest seat') },
  package: { requested: words('parcel box'), pool: words('origin dest item size') },
  meeting: { requested: words('call session'), pool: words('start end sender guest') },
  event: { requested: words('concert show'), pool: words('city start end count') },
  taxi: { requested: words('cab ride'), pool: words('origin dest start guest') },
  boat: { requested: words('ferry cruise'), pool: words('origin dest count nights') },
  gift: { requested: words('present surprise'), pool: words('sender guest item extra') },
  letter: { requested: words('mail note'), pool: words('date sender guest color') },
  lesson: { requested: words('class course'), pool: words('start end guest count') },
  house: { requested: words('home villa'), pool: words('city date until color') },
};

const numbers = Array.from({ length: 41 }, (_, number) => String(number));

/** Types of values. */
export const VALUES = {
  city: words(
    'oslo rome lima paris cairo delhi tokyo quito dakar accra berlin madrid vienna prague lisbon dublin athens ' +
      'moscow ankara tehran riyadh muscat kabul dhaka hanoi manila seoul sydney perth lagos tunis rabat havana ' +
      'bogota caracas boston denver dallas miami austin',
  ),
  day: words(
    'monday tuesday wednesday thursday friday saturday sunday today tomorrow january february march april may june ' +
      'july august september october november december',
  ),
  time: words(
    '1am 2am 3am 4am 5am 6am 7am 8am 9am 10am 11am noon 1pm 2pm 3pm 4pm 5pm 6pm 7pm 8pm 9pm 10pm 11pm midnight',
  ),
  name: words(
    'anna ben carla david emma frank grace henry irene jack karen leo maria nina oscar paula quentin rosa sam tina ' +
      'ugo vera walter xenia yusuf zoe',
  ),
  item: words(
    'novel lamp chair phone wallet camera guitar jacket shoes hat ring vase clock radio piano drum tent rug desk mirror',
  ),
  number: numbers,
  seat: words('window aisle middle front'),
  size: words('small medium large huge'),
  color: words('red blue green black'),
} as const satisfies Record<string, readonly string[]>;

export type ValueType = keyof typeof VALUES;

/** Arguments in the order in which tools list them, their types, and the cues that come before their values. */
export const ARGUMENTS: Readonly<Record<string, { type: ValueType; cues: readonly string[] }>> = {
  origin: { type: 'city', cues: words('from leaving') },
  dest: { type: 'city', cues: words('to reaching') },
  city: { type: 'city', cues: words('in near') },
  date: { type: 'day', cues: words('on dated') },
  until: { type: 'day', cues: words('until ending') },
  start: { type: 'time', cues: words('at starting') },
  end: { type: 'time', cues: words('before closing') },
  sender: { type: 'name', cues: words('signed as') },
  guest: { type: 'name', cues: words('with inviting') },
  item: { type: 'item', cues: words('containing holding') },
  extra: { type: 'item', cues: words('plus adding') },
  count: { type: 'number', cues: words('counting numbering') },
  nights: { type: 'number', cues: words('staying lasting') },
  seat: { type: 'seat', cues: words('seated beside') },
  size: { type: 'size', cues: words('sized fitting') },
  color: { type: 'color', cues: words('colored painted') },
};

/** Argument names in their order. */
export const ARGUMENT_NAMES: readonly string[] = Object.keys(ARGUMENTS);

/** What comes before the value that is of no concern. */
export const DISTRACTION = words('last was');

export interface CallTool {
  verb: string;
  noun: string;
  /** In the order of `ARGUMENTS`. */
  arguments: readonly { name: string; optional: boolean }[];
}

export interface Call {
  verb: string;
  noun: string;
  values: ReadonlyMap<string, string>;
}

/** A value as a request mentions it: `argument` null for the one of no concern. */
export interface Mention {
  argument: string | null;
  type: ValueType;
  value: string;
}

export interface DrawnCall {
  /** As they are listed. */
  tools: readonly CallTool[];
  /** The one that the request asks for. */
  tool: CallTool;
  /** In the order of the request. */
  mentions: readonly Mention[];
  request: string;
  call: Call;
}

const OPTIONAL_SHARE = 1 / 3;
const THREE_ARGUMENTS_SHARE = 0.6;
const MENTION_SHARE = 0.65;
const SIBLING_SHARE = 0.5;
const FILLERS = 2;
const DISTRACTION_SHARE = 0.4;
const UNSEEN_TOOLS = 24;

/** Of all verbs and nouns, each tool a function of its name. */
const ALL_TOOLS: readonly CallTool[] = Object.keys(VERBS).flatMap((verb) =>
  Object.keys(NOUNS).map((noun) => makeTool(verb, noun)),
);

const unseenNames = new Set(
  ALL_TOOLS.map(toolName)
    .toSorted((a, b) => hashText(`unseen ${a}`) - hashText(`unseen ${b}`))
    .slice(0, UNSEEN_TOOLS),
);

const SEEN_TOOLS = ALL_TOOLS.filter((tool) => !unseenNames.has(toolName(tool)));
const HIDDEN_TOOLS = ALL_TOOLS.filter((tool) => unseenNames.has(toolName(tool)));

function makeTool(verb: string, noun: string): CallTool {
  const rng = makeRng(hashText(`${verb} ${noun}`));
  const count = rng.next() < THREE_ARGUMENTS_SHARE ? 3 : 2;
  const names = new Set(rng.shuffle([...(NOUNS[noun]?.pool ?? [])]).slice(0, count));
  const listed = ARGUMENT_NAMES.filter((name) => names.has(name));
  const required = rng.pick(listed);
  return {
    verb,
    noun,
    arguments: listed.map((name) => ({ name, optional: name !== required && rng.next() < OPTIONAL_SHARE })),
  };
}

export function toolName({ verb, noun }: { verb: string; noun: string }): string {
  return `${verb} ${noun}`;
}

/** `send train origin dest date ?`: optional arguments are marked. */
export function renderTool(tool: CallTool): string {
  return [
    toolName(tool),
    ...tool.arguments.map(({ name, optional }) => (optional ? `${name} ?` : name)),
  ].join(' ');
}

/** `send train origin oslo dest rome`, arguments in the order of `ARGUMENTS`. */
export function renderCall({ verb, noun, values }: Call): string {
  const pairs = ARGUMENT_NAMES.filter((name) => values.has(name)).map(
    (name) => `${name} ${values.get(name)}`,
  );
  return [verb, noun, ...pairs].join(' ');
}

export function typeOf(argument: string): ValueType {
  const found = ARGUMENTS[argument];
  if (found === undefined) throw new Error(`internal error: no argument ${argument}`);
  return found.type;
}

/** Buckets of 100, from and below. `choose` (settings) and `report` (results) are the halves of `held-out`. */
const BUCKETS = {
  'held-out': [0, 12],
  choose: [0, 6],
  report: [6, 12],
  rl: [12, 20],
  'warm-up': [20, 100],
} as const;

export const CALL_SPLITS = ['held-out', 'choose', 'report', 'rl', 'warm-up', 'unseen-tools'] as const;

export type CallSplit = (typeof CALL_SPLITS)[number];

/** Whether problems with this call belong to a split. */
export function isInCallSplit(call: Call, split: CallSplit): boolean {
  const unseen = unseenNames.has(toolName(call));
  if (split === 'unseen-tools' || unseen) return unseen && split === 'unseen-tools';
  const bucket = hashText(renderCall(call)) % 100;
  const [from, to] = BUCKETS[split];
  return bucket >= from && bucket < to;
}

/** One random problem of a split. */
export function drawCall(rng: Rng, split: CallSplit): DrawnCall {
  for (;;) {
    const tool = rng.pick(split === 'unseen-tools' ? HIDDEN_TOOLS : SEEN_TOOLS);
    const mentioned = tool.arguments.filter(({ optional }) => !optional || rng.next() < MENTION_SHARE);
    const values = drawValues(
      mentioned.map(({ name }) => name),
      rng,
    );
    const call = { verb: tool.verb, noun: tool.noun, values };
    if (isInCallSplit(call, split)) return pose(tool, call, rng);
  }
}

/** A value for each argument; those of one type differ. */
export function drawValues(names: readonly string[], rng: Rng): Map<string, string> {
  const values = new Map<string, string>();
  for (const name of names) values.set(name, drawOther(typeOf(name), [...values.values()], rng));
  return values;
}

/** A value of a type that is not among those taken. */
export function drawOther(type: ValueType, taken: readonly string[], rng: Rng): string {
  for (;;) {
    const value = rng.pick(VALUES[type]);
    if (!taken.includes(value)) return value;
  }
}

function pose(tool: CallTool, call: Call, rng: Rng): DrawnCall {
  const siblings = SEEN_TOOLS.filter(({ noun, verb }) => noun === tool.noun && verb !== tool.verb);
  const others = rng.shuffle(SEEN_TOOLS.filter(({ noun }) => noun !== tool.noun)).slice(0, FILLERS);
  if (rng.next() < SIBLING_SHARE) others.push(rng.pick(siblings));
  const tools = rng.shuffle([tool, ...others]);

  const mentions: Mention[] = rng
    .shuffle([...call.values])
    .map(([argument, value]) => ({ argument, type: typeOf(argument), value }));
  if (rng.next() < DISTRACTION_SHARE) {
    const { type } = rng.pick(mentions);
    const value = drawOther(type, [...call.values.values()], rng);
    const distraction = { argument: null, type, value };
    if (rng.next() < 0.5) mentions.unshift(distraction);
    else mentions.push(distraction);
  }
  return { tools, tool, mentions, request: writeRequest(call, mentions, rng), call };
}

function writeRequest({ verb, noun }: Call, mentions: readonly Mention[], rng: Rng): string {
  const wanted = `${rng.pick(VERBS[verb] ?? [])} ${rng.pick(NOUNS[noun]?.requested ?? [])}`;
  const phrases = mentions.map(({ argument, value }) =>
    argument === null
      ? `${DISTRACTION.join(' ')} ${value}`
      : `${rng.pick(ARGUMENTS[argument]?.cues ?? [])} ${value}`,
  );
  const inFront = mentions[0]?.argument === null ? 1 : 0;
  return [...phrases.slice(0, inFront), wanted, ...phrases.slice(inFront)].join(' ');
}

/** `send train origin dest ; book room city nights ? request ship rail to rome from oslo` */
export function renderPosed({ tools, request }: Pick<DrawnCall, 'tools' | 'request'>): string {
  return `${tools.map(renderTool).join(' ; ')} request ${request}`;
}

/**
 * `count` problems of a split with distinct texts, a function of the options alone. Throws R3Error `bad-option`
 * where they do not come.
 */
export function drawCalls(options: { count: number; split: CallSplit; seed: number }): DrawnCall[] {
  const rng = makeRng(hash32(options.seed, hashText(options.split), 0));
  const found = new Map<string, DrawnCall>();
  for (let draw = 0; found.size < options.count; draw++) {
    if (draw > 100 * options.count)
      throw new R3Error('task', 'bad-option', `count: expected at most ${found.size}, got ${options.count}`);
    const drawn = drawCall(rng, options.split);
    found.set(renderPosed(drawn), drawn);
  }
  return [...found.values()];
}
