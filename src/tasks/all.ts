/** The tasks that come with r3, in the order in which help lists them. */
import type { Task } from '../method/task.ts';
import { countdown } from './countdown.ts';
import { functionCalling } from './function-calling.ts';
import { gsm8k } from './gsm8k.ts';
import { hellaswag } from './hellaswag.ts';
import { math } from './math.ts';
import { mmluPro } from './mmlu-pro.ts';
import { mmlu } from './mmlu.ts';
import { templatedCalls } from './templated-calls.ts';

export const TASKS: readonly Task[] = [
  countdown,
  functionCalling,
  gsm8k,
  math,
  mmluPro,
  mmlu,
  hellaswag,
  templatedCalls,
];
