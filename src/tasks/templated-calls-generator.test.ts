import { describe, expect, test } from 'vitest';
import { makeRng } from '../lib/rng.ts';
import {
  ARGUMENTS,
  drawCall,
  drawCalls,
  isInCallSplit,
  NOUNS,
  renderCall,
  renderPosed,
  renderTool,
  toolName,
  VERBS,
  type CallSplit,
  type DrawnCall,
} from './templated-calls-generator.ts';

const SPLITS = ['choose', 'report', 'rl', 'warm-up', 'unseen-tools'] as const;

function draw(split: CallSplit, count = 300): DrawnCall[] {
  const rng = makeRng(3);
  return Array.from({ length: count }, () => drawCall(rng, split));
}

/** What a reader without habits makes of the posed text alone: words to verb and noun, cues to arguments. */
function readCall(text: string): string {
  const [tools = '', request = ''] = text.split(' request ');
  const said = request.split(' ');
  const named = (names: Readonly<Record<string, readonly string[]>>): string =>
    Object.entries(names).find(([, synonyms]) => synonyms.some((word) => said.includes(word)))?.[0] ?? '';
  const verb = named(VERBS);
  const noun = named(Object.fromEntries(Object.entries(NOUNS).map(([name, n]) => [name, n.requested])));
  const listed = tools.split(' ; ').find((tool) => tool.startsWith(`${verb} ${noun} `)) ?? '';
  const pairs = listed
    .split(' ')
    .slice(2)
    .flatMap((name) => {
      const at = said.findIndex((word) => ARGUMENTS[name]?.cues.includes(word) === true);
      return at < 0 ? [] : [`${name} ${said[at + 1]}`];
    });
  return [verb, noun, ...pairs].join(' ');
}

describe('a problem', () => {
  test.each(SPLITS)('of split %s can be read from its text alone', (split) => {
    for (const drawn of draw(split)) expect(readCall(renderPosed(drawn))).toBe(renderCall(drawn.call));
  });

  test('names every required argument, once each, and at most one value of no concern', () => {
    for (const { tool, mentions, call } of draw('rl')) {
      const named = mentions.flatMap(({ argument }) => argument ?? []);
      expect(new Set(named).size).toBe(named.length);
      expect(named.toSorted()).toEqual([...call.values.keys()].toSorted());
      for (const { name, optional } of tool.arguments) {
        if (!optional) expect(named).toContain(name);
      }
      expect(mentions.length - named.length).toBeLessThanOrEqual(1);
      expect(new Set(mentions.map(({ value }) => value)).size).toBe(mentions.length);
    }
  });

  test('lists different tools, among them the wanted one and in about half of the cases one of its noun', () => {
    const drawn = draw('rl');
    for (const { tools, tool } of drawn) {
      expect(new Set(tools.map(renderTool)).size).toBe(tools.length);
      expect(tools).toContain(tool);
    }
    const withSibling = drawn.filter(({ tools, tool }) =>
      tools.some((t) => t.noun === tool.noun && t !== tool),
    );
    expect(Math.abs(withSibling.length / drawn.length - 0.5)).toBeLessThan(0.1);
  });

  test('is the same for the same seed, another for another, and comes once in a list', () => {
    const texts = (seed: number): string[] =>
      drawCalls({ count: 200, split: 'rl', seed }).map((drawn) => renderPosed(drawn));
    expect(texts(5)).toEqual(texts(5));
    expect(texts(5)).not.toEqual(texts(6));
    expect(new Set(texts(5)).size).toBe(200);
  });
});

describe('splits', () => {
  test('hold the calls that are drawn from them, and no other split does', () => {
    for (const split of SPLITS) {
      for (const { call } of draw(split, 100)) {
        expect(SPLITS.filter((other) => isInCallSplit(call, other))).toEqual([split]);
        expect(isInCallSplit(call, 'held-out')).toBe(split === 'choose' || split === 'report');
      }
    }
  });

  test('keep unseen tools out of the others, whether wanted or only listed', () => {
    const unseen = new Set(draw('unseen-tools', 1000).map(({ tool }) => toolName(tool)));
    expect(unseen.size).toBe(24);
    const listed = new Set(draw('warm-up', 1000).flatMap(({ tools }) => tools.map(toolName)));
    expect([...unseen].filter((name) => listed.has(name))).toEqual([]);
    expect(listed.size).toBe(136);
  });
});

test('requests never name verbs and nouns as tools do, and no word of theirs has two meanings', () => {
  const called = new Set([...Object.keys(VERBS), ...Object.keys(NOUNS)]);
  const cues = Object.values(ARGUMENTS).flatMap((argument) => argument.cues);
  const synonyms = [...Object.values(VERBS).flat(), ...Object.values(NOUNS).flatMap((n) => n.requested)];
  const requested = [...cues, ...synonyms];
  expect(requested.filter((word) => called.has(word))).toEqual([]);
  expect(new Set(requested).size).toBe(requested.length);
});
