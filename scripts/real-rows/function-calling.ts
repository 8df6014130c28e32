/**
 * Function calling on real rows: right calls must pass in every style, and junk must fail.
 *
 * Reads `function-calling/` of the data folder: `xlam/*.jsonl`, `hammer/*.jsonl`, and `bfcl-v4/BFCL_v4_*.json` with
 * `bfcl-v4/possible_answer/`. A row passes when its right calls, rendered in each of the six styles, pass by its own
 * rules (BFCL's rows also by strict and lenient), when they are read back as they were written, and when none of the
 * junk answers of `known` passes.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { functionCalling, tryGoodCalls } from '../../src/tasks/function-calling.ts';
import { readProblem } from '../../src/tasks/function-calling-rows.ts';
import type { CallProblem } from '../../src/tasks/function-calling-rows.ts';
import { CALL_RULES } from '../../src/tasks/verify/calls.ts';
import { STYLES, STYLE_NAMES } from '../../src/tasks/verify/call-styles/styles.ts';
import { writeJson } from '../../src/tasks/verify/json-values.ts';
import type { RealRowsResult } from './result.ts';

/** Rows that no call passes by BFCL's own rules: an empty list of accepted values, or names that no tool declares. */
const UNPASSABLE = [
  'live_multiple_862-181-3',
  'live_multiple_964-207-0',
  'live_simple_106-63-0',
  'live_simple_112-68-0',
];

export async function check(dataDirectory: string): Promise<RealRowsResult[]> {
  const folder = join(dataDirectory, 'function-calling');
  const results: RealRowsResult[] = [];
  for (const name of ['xlam', 'hammer']) {
    for (const file of readdirSync(join(folder, name)).filter((each) => each.endsWith('.jsonl'))) {
      results.push(checkLines(`${name}/${file}`, linesOf(readFileSync(join(folder, name, file), 'utf8'))));
    }
  }
  const bfcl = join(folder, 'bfcl-v4');
  for (const file of readdirSync(bfcl).filter((each) => each.endsWith('.json'))) {
    const questions = readFileSync(join(bfcl, file), 'utf8');
    const answers = join(bfcl, 'possible_answer', file);
    const lines = existsSync(answers)
      ? joinBfcl(questions, readFileSync(answers, 'utf8'))
      : linesOf(questions);
    results.push(checkLines(`bfcl-v4/${basename(file, '.json')}`, lines));
  }
  return results;
}

/** Each line of the questions with the accepted answers of the same line as `ground_truth`. */
export function joinBfcl(questions: string, answers: string): string[] {
  const accepted = linesOf(answers);
  const lines = linesOf(questions);
  if (accepted.length !== lines.length) {
    throw new Error(`expected as many answers as questions, ${lines.length}, got ${accepted.length}`);
  }
  return lines.map((line, i) => {
    const answer = accepted[i] ?? '';
    const id = (text: string): string => String((JSON.parse(text) as { id?: string }).id);
    if (id(line) !== id(answer))
      throw new Error(`line ${i + 1}: expected equal ids, got ${id(line)} and ${id(answer)}`);
    const truth = /"ground_truth":\s*(\[.*\])\s*\}\s*$/s.exec(answer)?.[1];
    if (truth === undefined)
      throw new Error(`line ${i + 1}: expected ground_truth at the end of the answer, got none`);
    return `${line.trimEnd().slice(0, -1)}, "ground_truth": ${truth}}`;
  });
}

function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line.trim() !== '');
}

function checkLines(name: string, lines: readonly string[]): RealRowsResult {
  const faults: string[] = [];
  let passed = 0;
  for (const [index, text] of lines.entries()) {
    const problem = functionCalling.parseRow(JSON.parse(text), index, text);
    const fault = faultOf(problem);
    if (fault === undefined) passed++;
    else faults.push(`${problem.id}: ${fault}`);
  }
  const result = { name, rows: lines.length, passed };
  return faults.length === 0 ? result : { ...result, note: faults.slice(0, 5).join('; ') };
}

function faultOf(problem: CallProblem): string | undefined {
  const { tools, wanted } = readProblem(problem);
  const calls = tryGoodCalls(wanted, tools);
  if (calls === undefined) {
    return UNPASSABLE.includes(problem.id) ? undefined : 'no call can pass';
  }
  if (UNPASSABLE.includes(problem.id)) return 'a call can pass, which was not so';
  const rules = problem.rules === 'bfcl' ? CALL_RULES : [problem.rules];
  for (const styleName of STYLE_NAMES) {
    const prompts = functionCalling.prompts(styleName);
    if (functionCalling.pose(problem, prompts).at(-1)?.role !== 'user')
      return 'the conversation ends otherwise';
    const style = STYLES[styleName];
    const answer = style.render(calls);
    for (const each of rules) {
      const verdict = functionCalling.verify({ ...problem, rules: each }, answer, prompts);
      if (!verdict.ok) return `${styleName}, ${each}: ${verdict.class}: ${verdict.why}`;
    }
    const read = style.parse(answer);
    const again = read.ok ? style.render(read.calls) : answer;
    if (again !== answer) return `${styleName}: read as ${again}, written as ${answer}`;
    for (const known of functionCalling.known(problem, prompts)) {
      const { ok } = functionCalling.verify(problem, known.answer, prompts);
      if (ok !== known.ok) return `${styleName}: expected ${known.ok} for ${known.answer}, got ${ok}`;
    }
    if (functionCalling.answersIn(problem, writeJson('nothing'), prompts).length > 0)
      return 'finds calls in prose';
  }
  return undefined;
}
