/**
 * Writes models/start/*.json, the files of the start model beside its weights, from `files.ts`.
 *   node scripts/run-ts.mjs scripts/start-model/write-files.ts
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { startModelFiles } from './files.ts';

const directory = 'models/start';
mkdirSync(directory, { recursive: true });
for (const [name, content] of Object.entries(startModelFiles())) {
  writeFileSync(`${directory}/${name}`, `${JSON.stringify(content, null, 2)}\n`);
}
