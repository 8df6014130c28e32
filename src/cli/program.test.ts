import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { makeStopSignal } from './io.ts';
import { runInPlace } from './testing.ts';

const folder = mkdtempSync(join(tmpdir(), 'r3-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, ...rows: unknown[]): string {
  const path = join(folder, name);
  writeFileSync(path, rows.map((row) => `${typeof row === 'string' ? row : JSON.stringify(row)}\n`).join(''));
  return path;
}

/** Presses Ctrl-C in a command that asked for the stop signal twice. */
const press = (times: number): { codes: number[]; aborted: boolean; listeners: number } => {
  const codes: number[] = [];
  const interrupts: (() => void)[] = [];
  const stopSignal = makeStopSignal(
    (interrupt) => interrupts.push(interrupt),
    (code) => codes.push(code),
  );
  expect(interrupts).toEqual([]);
  stopSignal();
  for (let i = 0; i < times; i++) interrupts[0]?.();
  return { codes, aborted: stopSignal().aborted, listeners: interrupts.length };
};

const COMMANDS = [
  'quickstart',
  'pull',
  'check',
  'mine',
  'train',
  'eval',
  'sft',
  'generate',
  'score',
  'tokenize',
  'render',
  'show',
  'report',
  'doctor',
];

describe('help', () => {
  test('of r3 names every command and goes to stdout', async () => {
    const { code, stdout, stderr } = await runInPlace(['--help']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const name of COMMANDS) expect(stdout).toContain(`\n  ${name} `);
  });

  test.each(COMMANDS)('of %s has a purpose, options and examples', async (name) => {
    const { code, stdout } = await runInPlace([name, '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain(`Usage: r3 ${name} `);
    expect(stdout).toContain('Examples:');
    expect(stdout).toContain(`  r3 ${name}`);
    expect(await runInPlace(['help', name])).toEqual({ code, stdout, stderr: '' });
  });

  test('is what r3 alone shows, on stderr, as a mistake', async () => {
    const { code, stdout, stderr } = await runInPlace([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('Usage: r3');
  });
});

describe('a mistake in the command line is one line on stderr, and exit code 2:', () => {
  test.each([
    [['trian'], "unknown command 'trian' (Did you mean train?)"],
    [
      ['foo'],
      /^r3: unknown command 'foo'; expected one of quickstart, pull, check, mine, train, .*doctor\n$/,
    ],
    [['train', '--stpes', '3'], "unknown option '--stpes' (Did you mean --steps?)"],
    [['train', '--steps', '1e3x'], '--steps: expected a whole number of at least 1, got "1e3x"'],
    [
      ['train', '--steps', '99999999999999999999'],
      '--steps: expected a whole number of at least 1, at most 9007199254740991, got "99999999999999999999"',
    ],
    [['train', '--steps'], "option '--steps <n>' argument missing"],
    [['train'], '--task: expected the name or the file of a task (or --resume with a run), got none'],
    [
      ['train', '--task', 'countdown', '--model', 'm'],
      'expected either --problems, to mine failures from, or --failures, got both or neither',
    ],
    [
      ['train', '--resume', 'run', '--steps', '4', '--seed', '2'],
      "--resume goes on with the run's own configuration: expected no option that sets it, got --steps, --seed",
    ],
    [
      ['train', '--task', 'countdown', '--model', 'm', '--failures', 'f', '--accept-kernels'],
      '--accept-kernels: expected --resume with a run, got a new run',
    ],
    [
      ['train', '--task', 'countdown', '--model', 'm', '--failures', 'f', '--dry-run', '--json'],
      '--json: expected a run, got --dry-run, which makes none',
    ],
    [
      ['train', '--task', 'countdown', '--model', 'm', '--failures', 'f', '--limit', '2', '--samples', '1'],
      '--failures takes all failures of a file: expected no option of mining, got --limit, --samples',
    ],
    [
      'train --task countdown --model m --problems p --method attempts --samples 4 --max-reflection-tokens 9'.split(
        ' ',
      ),
      '--samples, --max-reflection-tokens: expected none with the method attempts, which mines nothing and reflects on nothing, got it',
    ],
    [
      'train --task countdown --model m --problems p --method retries --max-reflection-tokens 9'.split(' '),
      '--max-reflection-tokens: expected none with the method retries, which asks for no reflection, got it',
    ],
    [
      'train --task countdown --model m --problems p --samples 1 --max-per-problem 5'.split(' '),
      '--max-per-problem: expected at most the 1 attempts at each problem (--samples), got 5',
    ],
    [
      [
        'mine',
        '--task',
        'countdown',
        '--model',
        'm',
        '--problems',
        'p',
        '--out',
        'o.jsonl',
        '--told',
        'reason',
      ],
      "unknown option '--told'",
    ],
    [
      ['sft', '--model', 'models/start', '--init-seed', '1', '--data', 'd', '--out', 'o'],
      '--init-seed: expected a folder without weights, got models/start, which holds model.safetensors',
    ],
    [
      ['check', 'countdown', '--answers', 'a', '--problems', 'p'],
      '--problems: expected no --answers beside it, whose rows are the problems',
    ],
    [
      ['check', 'countdown', '--answers', 'a', '--limit', '2'],
      '--limit: expected no --answers beside it, which are judged one and all',
    ],
    [
      ['generate', 'm', '--tokens', 't', '--raw'],
      '--raw: expected --prompt, got --tokens, which are encoded already',
    ],
    [['train', '--adam-beta2', '1'], '--adam-beta2: expected a number of at least 0, below 1, got "1"'],
    [['train', '--scale-rewards', 'mean'], '--scale-rewards: expected group, batch or none, got "mean"'],
    [['generate'], "missing required argument 'model'"],
    [
      ['generate', 'm', '--prompt', 'a', '--tokens', 'b'],
      'expected either --prompt or --tokens, got both or neither',
    ],
    [['generate', 'm', 'n', '--prompt', 'a'], /too many arguments/],
    [['doctor', '--threads', '65'], '--threads: expected a whole number from 1 to 64, got "65"'],
    [
      ['check', 'countup'],
      /^r3: task: expected countdown.* or a file that ends in \.ts, .*, got "countup"\n$/,
    ],
    [
      ['mine', '--task', 'countdwn', '--model', 'm', '--problems', 'p', '--out', 'o.jsonl'],
      /; did you mean countdown\?\n$/,
    ],
    [
      ['mine', '--task', 'countdown', '--model', 'm', '--problems', 'p.jsonl', '--out', './p.jsonl'],
      '--out: expected another file than the problems, got ./p.jsonl for both',
    ],
    [
      'train --task countdown --model m --failures f --importance-sampling-mode token_truncate'.split(' '),
      '--importance-sampling-mode token_truncate: expected --importance-sampling-clip-min or --importance-sampling-clip-max beside it, got neither',
    ],
    [
      ['check', 'countdown', '--prompts', 'long'],
      '--prompts: expected paper or short, which the task countdown has, got "long"',
    ],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await runInPlace(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr.split('\n')).toHaveLength(2);
    if (typeof message === 'string') expect(stderr).toBe(`r3: ${message}\n`);
    else expect(stderr).toMatch(message);
  });

  test('R3_KERNELS with a build that does not exist', async () => {
    const { code, stderr } = await runInPlace(['doctor'], { R3_KERNELS: 'gpu' });
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: 'r3: R3_KERNELS: expected native, wasm or reference, got "gpu"\n',
    });
  });
});

describe('what cannot be done is one line on stderr, and exit code 1:', () => {
  test.each([
    [['show', 'nowhere'], /^r3: nowhere: expected a run folder, got no config\.json/],
    [['report', 'nowhere'], /^r3: nowhere: expected a run folder/],
    [['train', '--resume', 'nowhere'], /^r3: nowhere: expected a run folder/],
    [['generate', 'nowhere', '--prompt', 'a'], /^r3: nowhere: expected a model folder/],
    [['check', 'countdown', '--answers', 'no.jsonl'], /^r3: no\.jsonl: expected a file, got nothing/],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await runInPlace(args);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr.split('\n')).toHaveLength(2);
  });

  const withRun = (run: string): string[] => [
    'train',
    '--task',
    'countdown',
    '--model',
    'nowhere',
    '--failures',
    'f.jsonl',
    '--run',
    run,
  ];

  test('a --run with files in it, before the model is looked at', async () => {
    file('in-the-way');
    const { code, stderr } = await runInPlace(withRun(folder));
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: `r3: --run: ${folder}: expected a new or empty folder, got one with files; choose another folder\n`,
    });
  });

  test('a --run of quickstart that holds a run: quick starts are not resumed', async () => {
    mkdirSync(join(folder, 'quick-run'));
    file('quick-run/config.json', { version: 1, command: 'quickstart' });
    const { code, stderr } = await runInPlace(['quickstart', '--run', join(folder, 'quick-run')]);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: `r3: --run: ${join(folder, 'quick-run')}: expected a new or empty folder, got one with files; choose another folder\n`,
    });
  });

  test('a --run, or an --out, under a file', async () => {
    const taken = file('taken');
    const expected = `${join(taken, 'x')}: expected a folder, got a file on the way to it; choose another path\n`;
    expect((await runInPlace(withRun(join(taken, 'x')))).stderr).toBe(`r3: --run: ${expected}`);
    const sft = ['sft', '--model', 'models/start', '--data', 'd.jsonl', '--out', join(taken, 'x', 'y')];
    expect((await runInPlace(sft)).stderr).toBe(`r3: ${expected}`);
  });

  test.runIf(process.platform === 'linux')('a --run, or an --out, where nothing can be made', async () => {
    const expected =
      /^r3: \/proc(\/x)?: expected (a place where a folder can be made|a file or folder), .*\n$/;
    expect((await runInPlace(withRun('/proc/x'))).stderr).toMatch(expected);
    const out = ['mine', '--task', 'countdown', '--model', 'nowhere', '--problems', 'p.jsonl', '--out'];
    expect((await runInPlace([...out, '/proc/x.jsonl'])).stderr).toMatch(expected);
  });

  test('--resume of a run that another command made, which stays as it was', async () => {
    const run = join(folder, 'other-run');
    mkdirSync(run);
    file('other-run/config.json', { version: 1, command: 'quickstart' });
    const { code, stderr } = await runInPlace(['train', '--resume', run]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `r3: ${run}: expected a run that r3 train can resume, got one of r3 "quickstart"\n`,
    });
    expect(readdirSync(run)).toEqual(['config.json']);
  });

  test('a row of sft that is longer than the context, wherever it stands, before the first step', async () => {
    const row = (content: string): object => ({
      messages: [
        { role: 'user', content: 'why' },
        { role: 'assistant', content },
      ],
    });
    const data = file('long.jsonl', row('so'), row('so'), row('1 '.repeat(3000)));
    const args = ['sft', '--model', 'models/start', '--data', data, '--out', join(folder, 'never')];
    const { code, stderr } = await runInPlace([...args, '--batch-size', '1']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^r3: .*long\.jsonl line 3: expected at most \d+ tokens .*, got \d{4}\n$/);
  });

  test('its stack is shown with --debug only', async () => {
    const { stderr } = await runInPlace(['show', 'nowhere', '--debug']);
    expect(stderr).toMatch(/\n {4}at /);
  });
});

describe('check', () => {
  const row = { nums: [44, 19, 35], target: 98 };
  const answers = file(
    'answers.jsonl',
    { ...row, completion: 'So: <answer>44 + 19 + 35</answer>' },
    { ...row, completion: '<answer>44 + 19 - 35</answer>' },
    { ...row, completion: 'no idea' },
  );

  test('gives one JSON line for each answer on stdout, and the counts on stderr', async () => {
    const { code, stdout, stderr } = await runInPlace(['check', 'countdown', '--answers', answers, '--json']);
    expect(code).toBe(0);
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([
      { ok: true, class: null, why: null },
      { ok: false, class: 'missed target', why: 'expected 98, got 28' },
      { ok: false, class: 'invalid equation', why: expect.stringContaining('no answer') as unknown },
    ]);
    expect(stderr).toBe('3 answers: 1 ok, 1 missed target, 1 invalid equation\n');
  });

  test('reads answers as the prompt set has them', async () => {
    const bare = file('bare.jsonl', { ...row, completion: '44 + 19 + 35' });
    const verdict = async (set: string): Promise<unknown> =>
      JSON.parse(
        (await runInPlace(['check', 'countdown', '--answers', bare, '--prompts', set, '--json'])).stdout,
      );
    expect(await verdict('short')).toMatchObject({ ok: true });
    expect(await verdict('paper')).toMatchObject({ ok: false });
  });

  test.each([
    ['{"nums": [44', 'expected a JSON object, got'],
    ['[1]', 'expected a JSON object, got'],
    ['{"nums": [44, 19], "target": 63}', 'completion: expected a text, got nothing'],
    ['{"nums": [44, 19], "target": 63, "completion": null}', 'completion: expected a text, got null'],
    [
      '{"nums": "44", "target": 63, "completion": ""}',
      'nums: expected a list of 2 to 8 whole numbers, got "44"',
    ],
  ])('the row %s is not judged, the others are, and the exit code is 1', async (line, message) => {
    const path = file('bad.jsonl', { ...row, completion: '' }, line, { ...row, completion: '' });
    const json = await runInPlace(['check', 'countdown', '--answers', path, '--json']);
    const lines = json.stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    expect(JSON.parse(lines[1] ?? '')).toEqual({
      ok: null,
      class: null,
      why: expect.stringContaining(`line 2: ${message}`) as unknown,
    });
    expect(JSON.parse(lines[2] ?? '')).toMatchObject({ ok: false });
    expect(json.code).toBe(1);
    const plain = await runInPlace(['check', 'countdown', '--answers', path]);
    expect(plain.stdout.split('\n')[1]).toContain(`2: not judged: ${message}`);
    expect(plain.stderr).toBe(
      '3 answers: 2 invalid equation, 1 not judged; 1 of the rows cannot be used, and their lines say why\n',
    );
    expect(plain.code).toBe(1);
  });

  test('an answer of a million control characters is judged as any other', async () => {
    const path = file('control.jsonl', { ...row, completion: '\0'.repeat(1 << 20) });
    const { code, stdout } = await runInPlace(['check', 'countdown', '--answers', path, '--json']);
    expect({ code, verdict: JSON.parse(stdout) as unknown }).toMatchObject({
      code: 0,
      verdict: { ok: false, class: 'invalid equation' },
    });
  });
});

describe('Ctrl-C', () => {
  test('is listened to once, when the stop signal is first asked for', () => {
    expect(press(0)).toEqual({ codes: [], aborted: false, listeners: 1 });
  });

  test('asks a command to stop the first time, and ends it the second time', () => {
    expect(press(1)).toEqual({ codes: [], aborted: true, listeners: 1 });
    expect(press(2)).toEqual({ codes: [130], aborted: true, listeners: 1 });
  });
});
