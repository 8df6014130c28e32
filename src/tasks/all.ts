/** The tasks that come with r3, in the order in which help lists them. */
import type { Task } from '../method/task.ts';
import { countdown } from './countdown.ts';
import { functionCalling } from './function-calling.ts';

export const TASKS: readonly Task[] = [countdown, functionCalling];
