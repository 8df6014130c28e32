import { expect, test } from 'vitest';
import { bytesText } from './memory.ts';

test('bytes are shown in binary units with three digits', () => {
  expect([0, 999, 1024, 1536, 2 ** 31, 1000 * 2 ** 20].map(bytesText)).toEqual([
    '0 B',
    '999 B',
    '1.00 KiB',
    '1.50 KiB',
    '2.00 GiB',
    '0.977 GiB',
  ]);
});
