/** The version of this package, from its package.json, which is found from src/ and from dist/ alike. */
import { readFileSync } from 'node:fs';

export function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return /"version": "([^"]+)"/.exec(readFileSync(file, 'utf8'))?.[1] ?? 'unknown';
}
