import { expect, test } from 'vitest';
import { renderKindsChart } from './curves.ts';
import { rows } from './testing.ts';

test('the kinds chart stands alone, and what grew most lies at the bottom', () => {
  const chart = renderKindsChart(rows);
  expect(chart).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" width="920"/);
  expect(chart).toContain('prefers-color-scheme:dark');
  expect(chart).toContain('First to last step: vague from 100% to 5%, search from 0% to 95%.');
  // The first layer's area starts at the axis; the label order follows the layers.
  expect(chart.indexOf('>search<')).toBeLessThan(chart.indexOf('>vague<'));
});

test('the last step has a tick, and no other stands close to it', () => {
  const chart = renderKindsChart(Array.from({ length: 103 }, (_, step) => ({ step, 'kind/vague': 1 })));
  const ticks = [...chart.matchAll(/text-anchor="middle"[^>]*>([^<]*)</g)].map(([, text]) => text);
  expect(ticks).toEqual(['0', '20', '40', '60', '80', 'step 102']);
});

test('more kinds than colours are added up', () => {
  const many = [
    { step: 1, ...Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`kind/k${i}`, (9 - i) / 45])) },
  ];
  const chart = renderKindsChart(many);
  expect(chart).toContain('>k4<');
  expect(chart).not.toContain('>k5<');
  expect(chart).toContain('>all others<tspan dx="5" fill="var(--muted,#5a636e)">22%</tspan>');
});
