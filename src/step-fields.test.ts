import { expect, test } from 'vitest';
import { stepFields } from './step-fields.ts';

test('a step is shown by its reward, signal, KL, length, commonest kind and time', () => {
  const metrics = {
    reward: 0.814,
    'groups/mixed': 0.9166,
    kl: 0.1512,
    'completions/mean_length': 28.7,
    'kind/vague': 0.2,
    'kind/short search': 0.57,
  };
  expect(stepFields({ metrics, seconds: { sample: 0.31, train: 0.42 } })).toEqual({
    reward: '0.81',
    signal: '92%',
    kl: '0.15',
    tokens: '29',
    kind: 'short search 57%',
    s: '0.7',
  });
});

test('a task that tells no kinds has none shown', () => {
  expect(stepFields({ metrics: {}, seconds: { sample: 0, train: 0 } })).not.toHaveProperty('kind');
});
