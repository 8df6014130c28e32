import { expect, test } from 'vitest';
import { beforeAfter, summarise, type EvaluationRow } from '../method/controls.ts';
import type { Io } from './io.ts';
import { giveBeforeAfter, resultsTable } from './results.ts';

const trial = (passed: boolean, tokens = 4): { passed: boolean; tokens: number } => ({ passed, tokens });
const rows: EvaluationRow[] = [
  { problem: 'a', firstTry: trial(true), secondTry: null, freshAttempts: [trial(true)] },
  { problem: 'b', firstTry: trial(false), secondTry: trial(true, 8), freshAttempts: [trial(false)] },
];

test('a table has a line for each control that was run, in percent with its interval', () => {
  const lines = resultsTable([{ head: 'before', summary: summarise(rows) }]).split('\n');
  expect(lines.map((line) => line.slice(0, 37).trimEnd())).toEqual([
    'solved, %',
    'first try',
    'second try, after its own reflection',
    'two independent tries',
    'independent tries at equal tokens',
    '  how many tries those are',
    'tokens of a first try',
    'tokens of both tries',
  ]);
  expect(lines[1]).toMatch(/ 50\.0 \(9\.5–90\.5\)$/);
  expect(lines[2]).toMatch(/ 100\.0 \(34\.2–100\.0\)$/);
  expect(lines.slice(5).map((line) => line.split(/\s+/).at(-1))).toEqual(['2', '4.0', '8.0']);
});

test('before and after are shown with what the reflections are like, and what was not measured is left out', () => {
  const both = { before: rows, after: rows };
  const writerByReader = {
    startStart: [true],
    startTrained: [true],
    trainedStart: [true],
    trainedTrained: [],
  };
  const run = { seed: 1, wallSeconds: 1, kernels: 'reference', temperature: 1 };
  const summary = beforeAfter({ ...run, ...both, greedy: both, writerByReader });
  const told = { kinds: { step: 1 }, meanTokens: 4, trueHints: 0.5, trueOfHints: 0.75 };
  const untold = { kinds: {}, meanTokens: 4, trueHints: Number.NaN, trueOfHints: Number.NaN };
  const shown = (profile: typeof told | typeof untold): string => {
    let output = '';
    const io: Io = {
      write: (text) => void (output += text),
      note: () => undefined,
      status: { write: () => undefined },
      env: {},
      stopSignal: () => new AbortController().signal,
      openInput: () => {
        throw new Error('no input here');
      },
      exitCode: 0,
    };
    const change = { profile: { before: profile, after: profile }, kl: 0.25, forcedBeginning: 'try' };
    giveBeforeAfter(summary, change, io);
    return output;
  };
  const text = shown(told);
  for (const part of [
    /\nstep +100\.0% +100\.0%\n/,
    /\ntrue, of those that hint +75\.0% +75\.0%\n/,
    /\nKL to the start model, nats per token +0 +0\.250\n/,
    /begin with: try\n$/,
  ]) {
    expect(text).toMatch(part);
  }
  expect(text).not.toContain('last steps');
  expect(shown(untold)).not.toMatch(/hint|NaN/);
});
