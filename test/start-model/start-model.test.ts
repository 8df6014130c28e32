import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { phaseRows } from '../../scripts/start-model/countdown/conversations.ts';
import { startModelFiles, vocabularyOf } from '../../scripts/start-model/files.ts';
import { WORDS } from '../../scripts/start-model/countdown/vocabulary.ts';
import { PHASES, type Phase } from '../../scripts/start-model/countdown/phases.ts';
import { writeReflection } from '../../scripts/start-model/countdown/reflections.ts';
import { makeRng } from '../../src/lib/rng.ts';
import { parseConversationRow, trainedTokens, type ConversationRow } from '../../src/method/conversation.ts';
import type { Message } from '../../src/method/episode.ts';
import { drawProblem, isInSplit, problemKey } from '../../src/tasks/countdown-generator.ts';
import { describeReflection } from '../../src/tasks/countdown-reflections.ts';
import { countdown } from '../../src/tasks/countdown.ts';
import { loadChatFormat } from '../../src/text/chat.ts';
import { checkTemplate } from '../../src/text/check-template.ts';
import { loadTokenizer } from '../../src/text/tokenizer.ts';

const directory = new URL('../../models/start', import.meta.url).pathname;
const VOCABULARY = vocabularyOf(WORDS);
const short = countdown.prompts('short');
const [phase1, , phase3, rare] = PHASES as readonly [Phase, Phase, Phase, Phase];

function rowsOf(phase: Phase, to = 1500): ConversationRow[] {
  return [...phaseRows(phase, { seed: 0, to })];
}

/** The words of a message and its end token, those that are trained in brackets. */
function marked(row: ConversationRow): string[] {
  return row.messages
    .filter(({ role }) => role === 'assistant')
    .map((message) => {
      const words = [...message.content.split(' '), '<end>'];
      const trained = new Set(trainedTokens(message, words.length, 'row'));
      return words.map((word, index) => (trained.has(index) ? `[${word}]` : word)).join(' ');
    });
}

describe('reflections', () => {
  const styles = ['vague', 'diagnosis', 'step', 'short search', 'long search'] as const;
  test.each(styles)('of style %s are described as what they are', (style) => {
    const rng = makeRng(3);
    const hints = { true: 0, false: 0, none: 0 };
    for (let i = 0; i < 300; i++) {
      const problem = drawProblem(rng, { split: 'warm-up', numbers: 3 });
      const { text, retry } = writeReflection(style, problem, rng);
      const { kind, hint } = describeReflection(problem, text);
      // A long search that finds at once reads like a short one.
      expect(kind).toBe(style === 'long search' && !text.includes('no') ? 'short search' : style);
      const passes = countdown.verify(problem, retry, short).ok;
      expect(passes || style === 'step', `${text}: ${retry}`).toBe(true);
      if (passes && style === 'step') expect(hint).toBe('true');
      hints[hint] += 1;
    }
    if (style === 'vague' || style === 'diagnosis') expect(hints.none).toBe(300);
    if (style === 'step') expect(hints.true).toBeGreaterThan(150);
    if (style === 'step') expect(hints.false).toBeGreaterThan(30);
    if (style === 'short search') expect(hints.true).toBeGreaterThan(100);
    if (style === 'short search') expect(hints.none).toBeGreaterThan(15);
    if (style === 'long search') expect(hints.true).toBe(300);
  });
});

describe('warm-up rows', () => {
  test('parse as conversations and are a function of seed, phase and index', () => {
    const rows = rowsOf(phase1, 200);
    for (const row of rows) expect(parseConversationRow(JSON.parse(JSON.stringify(row)), 'row')).toEqual(row);
    expect([...phaseRows(phase1, { seed: 0, from: 150, to: 200 })]).toEqual(rows.slice(150));
    expect([...phaseRows(phase1, { seed: 1, to: 200 })]).not.toEqual(rows);
    expect(rowsOf(phase3, 200)).not.toEqual(rows);
  });

  test.each(PHASES)('of phase $name have the shares of the phase, which sum to 1', (phase) => {
    const sum = (shares: Record<string, number>): number => Object.values(shares).reduce((a, b) => a + b, 0);
    expect(sum(phase.data)).toBeCloseTo(1, 9);
    expect(sum(phase.styles)).toBeCloseTo(1, 9);
    const rows = rowsOf(phase);
    const share = (...kinds: string[]): number =>
      rows.filter(({ kind }) => kinds.includes(kind ?? '')).length / rows.length;
    for (const kind of ['arithmetic', 'attempt', 'search drill', 'plain retry'] as const) {
      expect(Math.abs(share(kind) - phase.data[kind])).toBeLessThan(0.05);
    }
    expect(Math.abs(share('vague', 'diagnosis') - phase.data.conversation * (phase.styles.vague + phase.styles.diagnosis))).toBeLessThan(0.05); // prettier-ignore
  });

  test('pose problems of the warm-up split alone, none that is excluded', () => {
    const keysOf = (rows: ConversationRow[]): string[] =>
      rows.flatMap(({ messages }) => {
        const match = /^(\d+) (\d+) (\d+) to (\d+)$/.exec(messages[0]?.content ?? '');
        return match === null ? [] : [problemKey(match.slice(1, 4).map(Number), Number(match[4]))];
      });
    const keys = keysOf(rowsOf(phase1, 300));
    expect(keys.length).toBeGreaterThan(200);
    expect(keys.filter((key) => !isInSplit(key, 'warm-up'))).toEqual([]);
    const exclude = new Set(keys.slice(0, 100));
    expect(
      keysOf([...phaseRows(phase1, { seed: 0, to: 300, exclude })]).filter((key) => exclude.has(key)),
    ).toEqual([]);
  });

  test('never train a failed attempt, and train attempts and plain retries whole', () => {
    for (const row of rowsOf(phase1, 300)) {
      const texts = marked(row);
      if (row.kind === 'arithmetic') continue;
      if (row.kind !== 'attempt') expect(texts[0]).not.toContain('[');
      if (row.kind === 'plain retry') expect(row.messages).toHaveLength(4);
      expect(texts.at(-1)).toMatch(/^\[\S+\]( \[\S+\])* \[<end>\]$/);
    }
  });

  test('of arithmetic train the results alone', () => {
    const row = rowsOf(phase1, 50).find(({ kind }) => kind === 'arithmetic') as ConversationRow;
    expect(marked(row)[0]).toMatch(/^(\d+ [-+*/] \d+ = \[\d+\] ){6}<end>$/);
  });

  test('of drills leave out the first word of the search; from phase 3 on also what follows a no', () => {
    const drills = (phase: Phase): string[] =>
      rowsOf(phase, 400)
        .filter(({ kind }) => kind === 'search drill')
        .map((row) => marked(row)[1] as string);
    for (const drill of drills(phase1)) expect(drill).toMatch(/^keep( \[\S+\])+ \[<end>\]$/);
    const long = [...drills(phase3), ...drills(rare)];
    for (const drill of long) expect(drill).toMatch(/^keep( \[\S+\])+( \[no\] keep( \[\S+\])+)* \[<end>\]$/);
    expect(long.some((drill) => drill.includes('[no] keep'))).toBe(true);
  });
});

describe('the files of the start model', () => {
  const tokenizer = loadTokenizer(directory);
  const format = loadChatFormat(directory, tokenizer);
  const conversation: Message[] = [
    { role: 'user', content: '92 57 64 to 29' },
    { role: 'assistant', content: '( 92 - 57 ) + 64' },
    { role: 'user', content: 'why' },
  ];

  test('are what the script writes', () => {
    for (const [name, content] of Object.entries(startModelFiles(WORDS))) {
      expect(JSON.parse(readFileSync(`${directory}/${name}`, 'utf8')), name).toEqual(
        JSON.parse(JSON.stringify(content)),
      );
    }
  });

  test('render a conversation as words with one token each', () => {
    const text = '<bos> <user> 92 57 64 to 29 <assistant> ( 92 - 57 ) + 64 <end> <user> why <assistant>';
    expect(format.render(conversation).trim()).toBe(text);
    const ids = format.prompt(conversation);
    expect(ids).toEqual(text.split(' ').map((word) => VOCABULARY.indexOf(word)));
    expect(tokenizer.decodeWithSpecials(ids)).toBe(text);
    expect(tokenizer.decode(tokenizer.encode('64 - ( 92 - 57 )'))).toBe('64 - ( 92 - 57 )');
  });

  test('have a prefix-preserving template and stop at <end>', () => {
    expect(checkTemplate(format)).toMatchObject({ prefixPreserving: true, takesSystem: true });
    expect(format.stopIds).toEqual([VOCABULARY.indexOf('<end>')]);
  });

  test('know every word of the warm-up rows and prompts, and no word that they do not need', () => {
    const used = new Set(PHASES.flatMap((phase) => rowsOf(phase)).flatMap(({ messages }) => messages.flatMap(({ content }) => content.split(' ')))); // prettier-ignore
    expect([...used].filter((word) => !VOCABULARY.includes(word))).toEqual([]);
    expect(VOCABULARY.filter((word) => !/^<|^\d/.test(word) && !used.has(word))).toEqual([]);
    expect(new Set(VOCABULARY).size).toBe(tokenizer.vocabularySize);
  });

  test('leave room for the longest conversation', () => {
    const longest = Math.max(...rowsOf(phase3).map(({ messages }) => format.prompt(messages).length));
    expect(longest).toBeGreaterThan(80);
    expect(longest).toBeLessThan(128);
  });
});
