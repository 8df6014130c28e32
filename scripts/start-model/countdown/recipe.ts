/** The recipe of the start model for Countdown, which models/start ships. */
import { problemKey } from '../../../src/tasks/countdown-generator.ts';
import { countdown } from '../../../src/tasks/countdown.ts';
import { loadProblems } from '../../../src/tasks/rows.ts';
import { phaseNamed, type Recipe } from '../recipe.ts';
import { phaseRows } from './conversations.ts';
import { PHASES, TRAINING } from './phases.ts';
import { WORDS } from './vocabulary.ts';

export const countdownRecipe: Recipe = {
  folder: 'models/start',
  words: WORDS,
  training: TRAINING,
  phases: PHASES,
  rows: (name, options) => phaseRows(phaseNamed(PHASES, name), options),
  keysOf: async (path) =>
    (await loadProblems(countdown, path)).map(({ nums, target }) => problemKey(nums, target)),
};
