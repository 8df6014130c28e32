import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { attemptOf, neededItems, retryAfter } from '../../scripts/start-model/calls/attempts.ts';
import { callPhaseRows } from '../../scripts/start-model/calls/conversations.ts';
import { CALL_PHASES, type CallPhase } from '../../scripts/start-model/calls/phases.ts';
import { CALL_WORDS } from '../../scripts/start-model/calls/vocabulary.ts';
import { startModelFiles, vocabularyOf } from '../../scripts/start-model/files.ts';
import { makeRng } from '../../src/lib/rng.ts';
import { parseConversationRow, trainedTokens, type ConversationRow } from '../../src/method/conversation.ts';
import {
  drawCall,
  isInCallSplit,
  NOUNS,
  renderCall,
  VERBS,
  type DrawnCall,
} from '../../src/tasks/templated-calls-generator.ts';
import { describeCallReflection } from '../../src/tasks/templated-calls-reflections.ts';
import { loadChatFormat } from '../../src/text/chat.ts';
import { loadTokenizer } from '../../src/text/tokenizer.ts';

const directory = new URL('../../models/start-calls', import.meta.url).pathname;

function rowsOf(phase: CallPhase, to = 1000): ConversationRow[] {
  return [...callPhaseRows(phase, { seed: 0, to })];
}

function drawn(count: number): DrawnCall[] {
  const rng = makeRng(4);
  return Array.from({ length: count }, () => drawCall(rng, 'warm-up'));
}

/** The words of a message and its end token, those that are trained in brackets. */
function marked(message: ConversationRow['messages'][number]): string {
  const words = [...message.content.split(' '), '<end>'];
  const trained = new Set(trainedTokens(message, words.length, 'row'));
  return words.map((word, index) => (trained.has(index) ? `[${word}]` : word)).join(' ');
}

describe('habits', () => {
  const wanted: DrawnCall = {
    tools: [
      { verb: 'book', noun: 'train', arguments: [{ name: 'dest', optional: false }] },
      {
        verb: 'send',
        noun: 'train',
        arguments: [
          { name: 'origin', optional: false },
          { name: 'dest', optional: false },
          { name: 'seat', optional: true },
        ],
      },
    ],
    get tool() {
      return this.tools[1] as DrawnCall['tool'];
    },
    mentions: [
      { argument: null, type: 'city', value: 'lima' },
      { argument: 'dest', type: 'city', value: 'rome' },
      { argument: 'origin', type: 'city', value: 'oslo' },
      { argument: 'seat', type: 'seat', value: 'aisle' },
    ],
    request: 'last was lima ship rail to rome from oslo beside aisle',
    call: {
      verb: 'send',
      noun: 'train',
      values: new Map([
        ['origin', 'oslo'],
        ['dest', 'rome'],
        ['seat', 'aisle'],
      ]),
    },
  };

  test('take the first tool of the noun, assign values in order, and leave out an optional argument at the end', () => {
    expect(renderCall(attemptOf(wanted, 1, makeRng(1)))).toBe('book train dest lima');
    expect(renderCall(attemptOf(wanted, 1, makeRng(1), 'send'))).toBe('send train origin lima dest rome');
    expect(renderCall(attemptOf(wanted, 0, makeRng(1)))).toBe(renderCall(wanted.call));
  });

  test('are the same at every attempt when they are certain, and none makes every attempt right', () => {
    for (const problem of drawn(200)) {
      const texts = [1, 2, 3].map((seed) => renderCall(attemptOf(problem, 1, makeRng(seed))));
      expect(new Set(texts).size).toBe(1);
      expect(renderCall(attemptOf(problem, 0, makeRng(1)))).toBe(renderCall(problem.call));
    }
  });

  test('make more than half of the attempts wrong, and the needed items make every one right', () => {
    const rng = makeRng(2);
    const wrong = drawn(500).filter((problem) => {
      const attempt = attemptOf(problem, 1, rng);
      const items = neededItems(problem, attempt, rng);
      const isRight = renderCall(attempt) === renderCall(problem.call);
      expect(items.length === 0).toBe(isRight);
      expect(renderCall(retryAfter(problem, attempt, items, 1, rng))).toBe(renderCall(problem.call));
      return !isRight;
    });
    expect(wrong.length).toBeGreaterThan(250);
    expect(wrong.length).toBeLessThan(350);
  });
});

describe('warm-up rows', () => {
  test.each(CALL_PHASES)('of phase $name parse, and are a function of seed, phase and index', (phase) => {
    const rows = rowsOf(phase, 200);
    for (const row of rows) expect(parseConversationRow(JSON.parse(JSON.stringify(row)), 'row')).toEqual(row);
    expect([...callPhaseRows(phase, { seed: 0, from: 150, to: 200 })]).toEqual(rows.slice(150));
    expect([...callPhaseRows(phase, { seed: 1, to: 200 })]).not.toEqual(rows);
  });

  test.each(CALL_PHASES)('of phase $name have the shares of the phase, which sum to 1', (phase) => {
    const sum = (shares: Record<string, number>): number => Object.values(shares).reduce((a, b) => a + b, 0);
    expect(sum(phase.data)).toBeCloseTo(1, 9);
    expect(sum(phase.styles)).toBeCloseTo(1, 9);
    const rows = rowsOf(phase);
    for (const [kind, share] of Object.entries(phase.data)) {
      const found = rows.filter((row) => row.kind?.split(',')[0] === kind).length / rows.length;
      expect(Math.abs(found - share), kind).toBeLessThan(0.05);
    }
  });

  test('pose problems of the warm-up split alone', () => {
    const phase = CALL_PHASES.find(({ data }) => data.attempt > 0) as CallPhase;
    for (const { kind, messages } of rowsOf(phase, 500)) {
      if (kind !== 'attempt') continue;
      const [verb = '', noun = '', ...rest] = (messages[1]?.content ?? '').split(' ');
      const values = new Map(rest.flatMap((name, i) => (i % 2 === 0 ? [[name, rest[i + 1] ?? '']] : [])));
      expect(Object.keys(VERBS)).toContain(verb);
      expect(Object.keys(NOUNS)).toContain(noun);
      expect(isInCallSplit({ verb, noun, values }, 'warm-up')).toBe(true);
    }
  });

  test('of drills never train the attempt, nor the first word of a hint, nor a hint that may be false', () => {
    const rows = CALL_PHASES.flatMap((phase) => rowsOf(phase, 400));
    const of = (kind: string): string[][] =>
      rows
        .filter((row) => row.kind === kind)
        .map(({ messages }) => [1, 3, 5].map((i) => marked(messages[i]!)));
    for (const [attempt, hint, retry] of of('hint drill')) {
      expect(attempt).not.toContain('[');
      expect(hint).toMatch(/^use( \[\S+\])+ \[<end>\]$/);
      expect(retry).toMatch(/^(\[\S+\] )+\[<end>\]$/);
    }
    for (const [attempt, hint, retry] of of('obey drill')) {
      expect(attempt).not.toContain('[');
      expect(hint).not.toContain('[');
      expect(retry).toMatch(/^(\[\S+\] )+\[<end>\]$/);
    }
    expect(of('hint drill').length).toBeGreaterThan(50);
    expect(of('obey drill').length).toBeGreaterThan(50);
  });

  test('hold reflections that are described as what they are', () => {
    const kinds = { vague: 'vague', diagnosis: 'diagnosis' } as Record<string, string>;
    const nowhere = { verb: '', noun: '', values: new Map<string, string>() };
    for (const { kind, messages } of CALL_PHASES.flatMap((phase) => rowsOf(phase, 500))) {
      const reflection = messages[3]?.content;
      if (reflection === undefined) continue;
      const style = kind?.split(', ')[1] ?? 'use';
      expect(describeCallReflection(nowhere, undefined, reflection).kind).toBe(kinds[style] ?? 'correction');
    }
  });
});

describe('the files of the start model', () => {
  test('are what the script writes', () => {
    for (const [name, content] of Object.entries(startModelFiles(CALL_WORDS))) {
      const written: unknown = JSON.parse(readFileSync(`${directory}/${name}`, 'utf8'));
      expect(written, name).toEqual(JSON.parse(JSON.stringify(content)));
    }
  });

  test('know every word of the warm-up rows, and no word that they do not need', () => {
    const rows = CALL_PHASES.flatMap((phase) => rowsOf(phase, 2500));
    const used = new Set(rows.flatMap(({ messages }) => messages.flatMap((m) => m.content.split(' '))));
    const vocabulary = vocabularyOf(CALL_WORDS);
    expect([...used].filter((word) => !vocabulary.includes(word))).toEqual([]);
    expect(CALL_WORDS.filter((word) => !used.has(word))).toEqual([]);
    expect(new Set(vocabulary).size).toBe(loadTokenizer(directory).vocabularySize);
  });

  test('leave room for the longest conversation', () => {
    const format = loadChatFormat(directory, loadTokenizer(directory));
    const rows = CALL_PHASES.flatMap((phase) => rowsOf(phase));
    const longest = Math.max(...rows.map(({ messages }) => format.prompt(messages).length));
    expect(longest).toBeGreaterThan(60);
    expect(longest).toBeLessThan(128);
  });
});
