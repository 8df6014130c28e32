/** The styles by name, and the other names by which people know them. */
import type { CallStyle } from './call.ts';
import { hermes } from './hermes.ts';
import { json } from './json.ts';
import { llama } from './llama.ts';
import { phi } from './phi.ts';
import { python } from './python.ts';
import { xlam } from './xlam.ts';

export const STYLES = { hermes, llama, phi, xlam, json, python } satisfies Record<string, CallStyle>;
export type StyleName = keyof typeof STYLES;
export const STYLE_NAMES = Object.keys(STYLES) as StyleName[];

/** Letters only: `Qwen2.5`, `llama-3.1` and `phi_4` are found as `qwen`, `llama`, `phi`. */
const ALIASES: Readonly<Record<string, StyleName>> = {
  qwen: 'hermes',
  nous: 'hermes',
  meta: 'llama',
  phimini: 'phi',
  phiminiinstruct: 'phi',
  apigen: 'xlam',
  hammer: 'xlam',
  plain: 'json',
  plainjson: 'json',
  bfcl: 'python',
  pythonic: 'python',
  gorilla: 'python',
};

/** undefined for a name that is none of a style. */
export function tryStyle(name: string): StyleName | undefined {
  const letters = name.toLowerCase().replaceAll(/[^a-z]/g, '');
  return (
    STYLE_NAMES.find((each) => each === letters) ??
    (Object.hasOwn(ALIASES, letters) ? ALIASES[letters] : undefined)
  );
}
