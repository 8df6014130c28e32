/**
 * Writes the files of a start model beside its weights (`files.ts`) into its folder.
 *   node scripts/run-ts.mjs scripts/start-model/write-files.ts countdown
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { startModelFiles } from './files.ts';
import { recipeNamed } from './recipes.ts';

const { folder, words } = recipeNamed(process.argv[2] ?? 'countdown');
if (folder === null) throw new Error('expected the recipe of a model that ships, got another');
mkdirSync(folder, { recursive: true });
for (const [name, content] of Object.entries(startModelFiles(words))) {
  writeFileSync(`${folder}/${name}`, `${JSON.stringify(content, null, 2)}\n`);
}
