/** The recipes by the name that `--recipe` takes. */
import { bothRecipe } from './both/recipe.ts';
import { callsRecipe } from './calls/recipe.ts';
import { countdownRecipe } from './countdown/recipe.ts';
import type { Recipe } from './recipe.ts';

const RECIPES: Readonly<Record<string, Recipe>> = {
  countdown: countdownRecipe,
  calls: callsRecipe,
  both: bothRecipe,
};

/** Throws where there is none of that name. */
export function recipeNamed(name: string): Recipe {
  const recipe = RECIPES[name];
  if (recipe !== undefined) return recipe;
  throw new Error(`--recipe: expected ${Object.keys(RECIPES).join(', ')}, got ${name}`);
}
