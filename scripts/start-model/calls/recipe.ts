/** The recipe of the start model for function calling, which models/start-calls ships. */
import { phaseNamed, type Recipe } from '../recipe.ts';
import { callPhaseRows } from './conversations.ts';
import { CALL_PHASES, CALL_TRAINING } from './phases.ts';
import { CALL_WORDS } from './vocabulary.ts';

export const callsRecipe: Recipe = {
  folder: 'models/start-calls',
  words: CALL_WORDS,
  training: CALL_TRAINING,
  phases: CALL_PHASES,
  rows: (name, options) => callPhaseRows(phaseNamed(CALL_PHASES, name), options),
  keysOf: (path) => {
    throw new Error(`--exclude: expected none, because these problems are in no public set, got ${path}`);
  },
};
