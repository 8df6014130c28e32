/** Public names. */
export { audit, auditLines, requireAudit, type AuditCheck } from './audit.ts';
export type {
  AdamParams,
  Capabilities,
  Completion,
  Datum,
  Engine,
  Loss,
  LossResult,
  SampleRequest,
  SamplingParams,
} from './engine/engine.ts';
export { openLocalEngine, type LocalEngineOptions } from './engine/local/local-engine.ts';
export { evaluate, crossReadings } from './evaluate.ts';
export { compareForgetting, measureForgetting, type SuiteEntry, type TaskResult } from './forgetting.ts';
export { generateText } from './generate.ts';
export { R3Error } from './lib/errors.ts';
export { advantages } from './method/advantage.ts';
export { compare, summarise } from './method/controls.ts';
export { reflectionDatum } from './method/datum.ts';
export type { EvaluationFile } from './method/evaluation-summary.ts';
export type { Episode, Failure, Problem, Verdict } from './method/episode.ts';
export type { LossBatch } from './method/loss-batch.ts';
export { crossEntropyLoss, policyLoss } from './method/loss.ts';
export { defaultLossOptions, type LossOptions } from './method/loss-options.ts';
export type { Prompts, Task } from './method/task.ts';
export { mine } from './mine.ts';
export { makePlayer, type Player } from './player.ts';
export { createRun, openRun, readRun } from './runs/run.ts';
export { sft } from './sft.ts';
export { countdown } from './tasks/countdown.ts';
export { defineTask, type Judgement, type TaskDefinition, type TaskRow } from './tasks/define.ts';
export { loadTask, type LoadedTask, type TaskFile } from './tasks/load-task.ts';
export { functionCalling } from './tasks/function-calling.ts';
export { gsm8k } from './tasks/gsm8k.ts';
export { hellaswag } from './tasks/hellaswag.ts';
export { math } from './tasks/math.ts';
export { mmluPro } from './tasks/mmlu-pro.ts';
export { mmlu, withExamples } from './tasks/mmlu.ts';
export { loadChatFormat } from './text/chat.ts';
export { loadTokenizer } from './text/tokenizer.ts';
export { train } from './train.ts';
export { defaultTrainOptions, type TrainOptions } from './train-options.ts';
