import { Command } from 'commander';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { R3Error } from '../lib/errors.ts';
import { choice, integer, loraOf, orList, real, repeated } from './options.ts';
import type { Option } from 'commander';

function parse(option: Option, ...args: string[]): unknown {
  const command = new Command().exitOverride().addOption(option);
  command.parse(args, { from: 'user' });
  return command.opts<Record<string, unknown>>()[option.attributeName()];
}

function refusal(option: Option, text: string): R3Error {
  try {
    parse(option, `${option.long}=${text}`);
  } catch (error) {
    expect(error).toBeInstanceOf(R3Error);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    return error as R3Error;
  }
  throw new Error(`${text} was accepted`);
}

const steps = (): Option => integer('--steps <n>', 'steps', { min: 1, max: 1e6 });

test('every whole number in range is read as itself', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e6 }), (n) => {
      expect(parse(steps(), '--steps', String(n))).toBe(n);
    }),
  );
  expect(parse(steps(), '--steps', '1e3')).toBe(1000);
});

test.each(['1e3x', '', ' ', '1.5', '0', '-1', '0x10', '1_000', '1,000', 'NaN', 'Infinity', '1e999', '--'])(
  'a whole number from 1 is not %j',
  (text) => {
    const { message, boundary, code } = refusal(steps(), text);
    expect(message).toBe(`--steps: expected a whole number from 1 to 1000000, got ${JSON.stringify(text)}`);
    expect({ boundary, code }).toEqual({ boundary: 'config', code: 'bad-option' });
  },
);

test('what is not the notation of a number is refused, whatever Number() makes of it', () => {
  const notation = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
  fc.assert(
    fc.property(
      fc.string().filter((text) => !notation.test(text)),
      (text) => {
        expect(refusal(real('--x <x>', 'x'), text).message).toContain('--x: expected a number, got');
      },
    ),
  );
});

test('limits are named as they hold', () => {
  expect(refusal(real('--p <p>', 'p', { above: 0, max: 1 }), '0').message).toBe(
    '--p: expected a number above 0, of at most 1, got "0"',
  );
  expect(refusal(real('--b <b>', 'b', { min: 0, below: 1 }), '1').message).toBe(
    '--b: expected a number of at least 0, below 1, got "1"',
  );
  expect(refusal(real('--t <t>', 't', { min: 0 }), '-0.1').message).toBe(
    '--t: expected a number of at least 0, got "-0.1"',
  );
});

test('a choice names its values', () => {
  const schedule = choice('--schedule <kind>', 'decay', ['cosine', 'linear', 'constant']);
  expect(parse(schedule, '--schedule', 'linear')).toBe('linear');
  expect(refusal(schedule, 'Linear').message).toBe(
    '--schedule: expected cosine, linear or constant, got "Linear"',
  );
  expect(orList(['one'])).toBe('one');
});

test('a repeated option keeps all its values, in order', () => {
  expect(parse(repeated('--stop <text>', 'stop'), '--stop', 'a', '--stop', 'b')).toEqual(['a', 'b']);
  expect(parse(repeated('--data <file...>', 'data'), '--data', 'a', 'b', '--data', 'c')).toEqual([
    'a',
    'b',
    'c',
  ]);
});

test('all-linear as the only target module stands for all linear layers but the head', () => {
  expect(loraOf({ lora: 4, targetModules: ['all-linear'] })?.targets).toBe('all-linear');
  expect(loraOf({ lora: 4 })?.targets).toBe('all-linear');
  expect(loraOf({ lora: 4, targetModules: ['q_proj'] })?.targets).toEqual(['q_proj']);
});
