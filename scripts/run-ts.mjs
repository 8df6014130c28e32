/**
 * Runs a TypeScript script of this repository on Node 20, which cannot strip types itself:
 *   node scripts/run-ts.mjs scripts/start-model/data.ts --describe
 * Node 22.18 and later run the script directly. Uses vite, which comes with vitest.
 */
import { runnerImport } from 'vite';

const [script] = process.argv.splice(2, 1);
if (script === undefined) throw new Error('run-ts: expected the path of a script, got none');
await runnerImport(script, { configFile: false, logLevel: 'error' });
