/**
 * The house rules that a machine can check: import direction, links, leftover marks, machine paths.
 * Every rule reads the files that git tracks or would track.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: ROOT,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(ROOT, file)));
const text = (file: string): string => readFileSync(join(ROOT, file), 'utf8');
const isText = (file: string): boolean =>
  /\.(ts|mjs|c|h|py|md|json|jsonc|yml|html|jinja)$|^\.ci\/run$/.test(file) && file !== 'package-lock.json';

/** From top to bottom. A room may import from its own and from lower ones. */
const ROOMS = [
  'index',
  'cli',
  'dashboard',
  'serve',
  'quickstart',
  'exhibits',
  'tasks',
  'loops',
  'method',
  'engine',
  'hub',
  'text',
  'runs',
  'kernels',
  'lib',
];
/** `runs` and `engine` hold records of the method and types of the engine; types alone may look up. */
const LOOPS = new Set([
  'train',
  'train-options',
  'learn',
  'mine',
  'evaluate',
  'collect',
  'left-out',
  'lookahead',
  'player',
  'chat-player',
  'audit',
  'sft',
  'deck',
  'episode-source',
  'failure-source',
  'schedule',
  'step-fields',
  'generate',
  'choices',
  'forgetting',
]);

function roomOf(file: string): string {
  const [, first = ''] = file.split('/');
  const name = first.replace(/(\.test)?\.ts$/, '');
  return LOOPS.has(name) ? 'loops' : name;
}

function importsOf(file: string): { from: string; typeOnly: boolean }[] {
  const source = text(file);
  const found = [...source.matchAll(/^(?:import|export)\s+(type\s)?[^'"]*?from\s+'(\.[^']+)'/gm)].map(
    (m) => ({ typeOnly: m[1] !== undefined, from: m[2] as string }),
  );
  const dynamic = [...source.matchAll(/import\('(\.[^']+)'\)/g)].map((m) => ({
    typeOnly: false,
    from: m[1] as string,
  }));
  return [...found, ...dynamic];
}

const sources = files.filter(
  (file) => file.startsWith('src/') && file.endsWith('.ts') && !file.endsWith('.test.ts'),
);

test('imports go down the list of rooms, never up', () => {
  const wrong = sources.flatMap((file) =>
    importsOf(file).flatMap(({ from, typeOnly }) => {
      const target = relative(ROOT, resolve(ROOT, dirname(file), from));
      const [own, other] = [roomOf(file), roomOf(target)];
      expect(ROOMS, `${target} is in no room`).toContain(other);
      return ROOMS.indexOf(other) < ROOMS.indexOf(own) && !typeOnly ? [`${file} imports ${target}`] : [];
    }),
  );
  expect(wrong).toEqual([]);
  expect(sources.length).toBeGreaterThan(30);
});

test('only the command line reads arguments and environment, prints or exits', () => {
  const wrong = sources.filter(
    (file) =>
      !file.startsWith('src/cli/') &&
      !/(testing|-suite)\.ts$/.test(file) &&
      /process\.(argv|env|exit\b|stdout|stderr)|console\./.test(text(file)),
  );
  expect(wrong).toEqual([]);
});

test('links in documents lead to files that exist', () => {
  const wrong = files
    .filter((file) => file.endsWith('.md'))
    .flatMap((file) =>
      [...text(file).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].flatMap((m) =>
        existsSync(resolve(ROOT, dirname(file), m[1] as string)) ? [] : [`${file}: ${m[1]}`],
      ),
    );
  expect(wrong).toEqual([]);
});

test('no leftover marks and no machine paths', () => {
  const marks = new RegExp(
    ['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X\\b', '\\.on' + 'ly\\(', '\\.sk' + 'ip\\('].join('|'),
  );
  const paths = new RegExp(
    ['/wo' + 'rk/', '/ro' + 'ot/', '/tm' + 'p/', '/ho' + 'me/[a-z]', 'registry\\.' + 'npm'].join('|'),
  );
  const wrong = files.filter(isText).flatMap((file) =>
    text(file)
      .split('\n')
      .flatMap((line, i) =>
        marks.test(line) || paths.test(line) ? [`${file}:${i + 1}: ${line.trim().slice(0, 120)}`] : [],
      ),
  );
  expect(wrong).toEqual([]);
});

test('the lock file carries no download addresses', () => {
  expect(text('package-lock.json')).not.toMatch(/"resolved"|https?:\/\/[^"]*\.tgz/);
});
