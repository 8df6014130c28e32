import { expect, test } from 'vitest';
import { bothRecipe } from '../../scripts/start-model/both/recipe.ts';
import { callsRecipe } from '../../scripts/start-model/calls/recipe.ts';
import { countdownRecipe } from '../../scripts/start-model/countdown/recipe.ts';

test('a phase of both holds the rows of its two phases, each in its own order, in proportion', () => {
  const rows = [...bothRecipe.rows('rare', { seed: 3, to: 300 })].map((row) => JSON.stringify(row));
  const countdown = [...countdownRecipe.rows('rare', { seed: 3, to: 300 })].map((row) => JSON.stringify(row));
  const calls = [...callsRecipe.rows('habits', { seed: 3, to: 300 })].map((row) => JSON.stringify(row));
  const ofCountdown = rows.filter((row) => countdown.includes(row));
  const ofCalls = rows.filter((row) => calls.includes(row));
  expect(ofCountdown).toEqual(countdown.slice(0, ofCountdown.length));
  expect(ofCalls).toEqual(calls.slice(0, ofCalls.length));
  expect(ofCountdown.length + ofCalls.length).toBe(300);
  // 60,000 rows beside 76,800.
  expect(ofCountdown.length).toBe(Math.floor((300 * 60_000) / 136_800));
});

test('a part of a phase is the same rows as in the whole', () => {
  const whole = [...bothRecipe.rows('2', { seed: 1, to: 40 })];
  expect([...bothRecipe.rows('2', { seed: 1, from: 17, to: 40 })]).toEqual(whole.slice(17));
});

test('the words of both are those of each, once', () => {
  expect(new Set(bothRecipe.words).size).toBe(bothRecipe.words.length);
  for (const word of [...countdownRecipe.words, ...callsRecipe.words])
    expect(bothRecipe.words).toContain(word);
});
