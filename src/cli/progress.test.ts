import { expect, test } from 'vitest';
import { formatDuration, formatNumber, makeProgress, sparkline, wantsStatusLine } from './progress.ts';
import type { Progress } from './progress.ts';

interface Screen {
  progress: Progress;
  /** Moves the clock. */
  wait: (ms: number) => void;
  writes: string[];
  stream: { columns: number };
  /** What a terminal shows: lines, and the status line last. */
  shown: () => string[];
}

function screen(isTty: boolean, columns = 100): Screen {
  let ms = 0;
  const writes: string[] = [];
  const stream = { columns, write: (text: string) => writes.push(text) };
  return {
    progress: makeProgress({ stream, isTty, now: () => ms }),
    wait: (more) => {
      ms += more;
    },
    writes,
    stream,
    shown: () =>
      writes
        .join('')
        .split('\n')
        .map((line) => line.split('\x1b[2K\r').at(-1)!),
  };
}

test('the status line has phase, bar, count, elapsed, time left, numbers and a curve', () => {
  const { progress, wait, shown } = screen(true);
  progress.phase('train', 100);
  for (const [done, reward] of [
    [10, 0.1],
    [20, 0.3],
    [25, 0.4],
  ] as const) {
    wait(20_000);
    progress.update(done, { reward, kl: 0.01234 });
  }
  expect(shown()).toEqual(['train  ████░░░░░░░░░░░░  25/100  1:00  3:00 left  reward 0.400  kl 0.0123  ▁▆█']);
});

test('the status line is drawn at most ten times a second', () => {
  const { progress, wait, writes } = screen(true);
  progress.phase('sample', 1000);
  for (let i = 1; i <= 1000; i++) {
    wait(1);
    progress.update(i);
  }
  expect(writes).toHaveLength(11);
});

test('log lines stand above the status line, and none is lost', () => {
  const { progress, wait, shown } = screen(true);
  progress.log('before');
  progress.phase('mine', 10);
  progress.log('one');
  wait(1000);
  progress.update(5);
  progress.log('two\nthree');
  expect(shown().slice(0, -1)).toEqual(['before', 'one', 'two', 'three']);
  expect(shown().at(-1)).toMatch(/^mine {2}█+░+ {2}5\/10/);
  progress.end();
  expect(shown()).toEqual(['before', 'one', 'two', 'three', 'mine  5/10  0:01', '']);
});

test('a phase that is over leaves one line with its last numbers', () => {
  const { progress, wait, shown } = screen(true);
  progress.phase('mine', 2);
  wait(10);
  progress.update(2, { failures: 57 });
  wait(65_000);
  progress.phase('train', 3);
  progress.end();
  progress.end();
  expect(shown()).toEqual(['mine  2/2  1:05  failures 57', 'train  0/3  0:00', '']);
});

test('a status line never wraps: parts are left out, after a resize too', () => {
  const { progress, wait, shown, stream } = screen(true, 200);
  progress.phase('train', 100);
  const fields = { reward: 0.5, kl: 0.25, tokens: 123456 };
  for (let columns = 120; columns >= 0; columns--) {
    stream.columns = columns;
    wait(1000);
    progress.update(50 + (columns % 2), fields);
    expect(shown().at(-1)!.length).toBeLessThanOrEqual(Math.max(0, columns - 1));
    if (columns >= 30) expect(shown().at(-1)).toMatch(/^train {2}/);
  }
});

test('the time left is not told from the first few of a batch, and is after a minute', () => {
  const { progress, wait, shown } = screen(true);
  progress.phase('measure', 1000);
  wait(5000);
  progress.update(1);
  expect(shown().at(-1)).toMatch(/1\/1000 {2}0:05$/);
  wait(5000);
  progress.update(50);
  expect(shown().at(-1)).toContain('50/1000  0:10  3:10 left');
  progress.phase('train', 1000);
  wait(60_000);
  progress.update(2);
  expect(shown().at(-1)).toContain('2/1000  1:00  8:19:00 left');
});

test('the time left of a resumed phase counts only what it did itself', () => {
  const { progress, wait, shown } = screen(true);
  progress.phase('train', 100, 80);
  wait(10_000);
  progress.update(90);
  expect(shown().at(-1)).toContain('90/100  0:10  0:10 left');
});

test('without a terminal there are plain lines every five seconds, and no control character', () => {
  const { progress, wait, writes } = screen(false);
  progress.phase('train', 20);
  for (let i = 1; i <= 20; i++) {
    wait(1000);
    progress.update(i, { reward: i / 40 });
  }
  progress.log('done\x1b[2J');
  progress.end();
  expect(writes).toEqual([
    'train  5/20  0:05  0:15 left  reward 0.125\n',
    'train  10/20  0:10  0:10 left  reward 0.250\n',
    'train  15/20  0:15  0:05 left  reward 0.375\n',
    'train  20/20  0:20  reward 0.500\n',
    'done\u241b[2J\n',
  ]);
});

test('plain lines come in order: the last line of a phase at its last step, once, and else when it ends', () => {
  const { progress, wait, writes } = screen(false);
  progress.phase('mine', 2);
  wait(10);
  progress.update(1);
  progress.update(2, { failures: 1 });
  progress.log('two mined');
  wait(9000);
  progress.update(2);
  progress.phase('train', 3);
  wait(1000);
  progress.update(2);
  progress.end();
  expect(writes).toEqual(['mine  2/2  0:00  failures 1\n', 'two mined\n', 'train  2/3  0:01\n']);
});

test('a phase without a total counts', () => {
  const { progress, wait, shown } = screen(true);
  progress.phase('load');
  expect(shown().at(-1)).toBe('load  0:00');
  wait(1000);
  progress.update(3, { file: 'a\nb' });
  expect(shown().at(-1)).toBe('load  3  0:01  file a b');
});

test('a status line is for terminals outside CI and without NO_COLOR', () => {
  expect(wantsStatusLine({ isTTY: true }, {})).toBe(true);
  expect(wantsStatusLine({}, {})).toBe(false);
  expect(wantsStatusLine({ isTTY: true }, { CI: '1' })).toBe(false);
  expect(wantsStatusLine({ isTTY: true }, { NO_COLOR: '1' })).toBe(false);
  expect(wantsStatusLine({ isTTY: true }, { NO_COLOR: '', CI: '' })).toBe(true);
  expect(wantsStatusLine({ isTTY: true }, { TERM: 'dumb' })).toBe(false);
});

test('numbers and durations are short', () => {
  expect([0, 12, 0.5, 12.345, 123456.7, -0.001234, Number.NaN].map(formatNumber)).toEqual([
    '0',
    '12',
    '0.500',
    '12.3',
    '123457',
    '-0.00123',
    'NaN',
  ]);
  expect([0, 59_400, 60_000, 3_599_000, 3_600_000, 36_065_000, -5].map(formatDuration)).toEqual([
    '0:00',
    '0:59',
    '1:00',
    '59:59',
    '1:00:00',
    '10:01:05',
    '0:00',
  ]);
  expect(sparkline([1])).toBe('');
  expect(sparkline([1, 1])).toBe('▁▁');
  expect(sparkline([0, Number.NaN, 7, 3])).toBe('▁█▄');
});
