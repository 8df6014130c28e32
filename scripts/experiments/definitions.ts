/**
 * The experiments: questions that readers of "Reflect, Retry, Reward" (arXiv 2505.24726) ask, each as a list of arms
 * that differ from the quick start in what they name and in nothing else.
 *
 * Settings were chosen on problems of another split (LOG.md, section 2); every arm is measured on the split `report`.
 */
import type { ExhibitName } from '../../src/exhibits.ts';
import { quickstartTrainOptions } from '../../src/quickstart.ts';
import { defaultTrainOptions, type TrainOptions } from '../../src/train-options.ts';

export interface Arm {
  /** Of its results' files: an arm that several experiments have is run once. */
  name: string;
  /** In tables. */
  label: string;
  /** What it changes of the quick start's training. */
  train?: Partial<TrainOptions>;
  /**
   * Which of the start models of a warm-up it begins from; default `rare`. `calls` is the one for function calling,
   * `both` knows both tasks, `large` is ten times larger.
   */
  start?: 'rare' | 'common' | 'calls' | 'both' | 'large';
  /** What is trained and measured, where the start model does not say it. */
  exhibit?: ExhibitName;
  /** The task that the start model knows too and that is not trained: its first try before and after. */
  untouched?: ExhibitName;
  shuffleRewards?: true;
}

export interface Experiment {
  name: string;
  title: string;
  question: string;
  arms: readonly Arm[];
  /** Whether the page has every control, before and after, and who gains: writer or reader. */
  showsControls?: true;
}

/** Problems that every arm is measured on. */
export const HELD_OUT = 2000;

const quick = quickstartTrainOptions(1, false);
const { failuresPerStep, loss, mining } = quick;
const DEFAULT: Arm = { name: 'paper', label: 'reflections rewarded, frozen failures' };

/** A step of the quick start samples a reflection and a retry for each episode; one of attempts samples attempts alone. */
const EQUAL_SAMPLES = 2 * failuresPerStep;

export const EXPERIMENTS: readonly Experiment[] = [
  {
    name: 'claim',
    title: 'The first claim',
    question: 'Does training reflections alone raise the second try, and what do the controls say?',
    showsControls: true,
    arms: [DEFAULT, { name: 'shuffled', label: 'the same, rewards shuffled', shuffleRewards: true }],
  },
  {
    name: 'claim-calls',
    title: 'The first claim, on function calling',
    question: 'Does it hold on a second task, whose start model repeats its mistakes?',
    showsControls: true,
    arms: [
      { name: 'calls', label: 'reflections rewarded, frozen failures', start: 'calls' },
      {
        name: 'calls-shuffled',
        label: 'the same, rewards shuffled',
        start: 'calls',
        shuffleRewards: true,
      },
    ],
  },
  {
    name: 'size',
    title: 'The second claim: ten times larger, untrained',
    question:
      'Does the small model, trained, do better than one of ten times its parameters, made by the same recipe and not trained?',
    arms: [
      { ...DEFAULT, label: 'small (378 thousand parameters), trained' },
      {
        name: 'large-untrained',
        label: 'large (3.9 million parameters), not trained',
        start: 'large',
        train: { steps: 0 },
      },
    ],
  },
  {
    name: 'forgetting',
    title: 'Forgetting',
    question: 'A model knows both tasks and is trained on one: what becomes of the other?',
    arms: [
      {
        name: 'both-countdown',
        label: 'trained on Countdown',
        start: 'both',
        exhibit: 'countdown',
        untouched: 'function-calling',
      },
      {
        name: 'both-countdown-long',
        label: 'trained on Countdown, three times the steps',
        start: 'both',
        exhibit: 'countdown',
        untouched: 'function-calling',
        train: { steps: 3 * quick.steps },
      },
      {
        name: 'both-calls',
        label: 'trained on function calling',
        start: 'both',
        exhibit: 'function-calling',
        untouched: 'countdown',
      },
    ],
  },
  {
    name: 'trained-tokens',
    title: 'What is trained',
    question: 'Is it the reflection that must be rewarded, the retry after it, both, or the attempts?',
    arms: [
      DEFAULT,
      { name: 'retry', label: 'retries rewarded, after a reflection', train: { trainTokens: 'retry' } },
      { name: 'both', label: 'reflections and retries rewarded', train: { trainTokens: 'both' } },
      {
        name: 'all',
        label: 'attempts, reflections and retries rewarded',
        train: {
          trainTokens: 'all',
          firstAttempts: 'on-policy',
          mining: { ...mining, samples: 4 },
        },
      },
      { name: 'no-reflection', label: 'retries rewarded, no reflection', train: { method: 'retries' } },
      {
        name: 'attempts',
        label: 'GRPO on attempts, equal samples',
        train: { method: 'attempts', failuresPerStep: EQUAL_SAMPLES },
      },
      {
        name: 'attempts-long',
        label: 'GRPO on attempts, three times the steps',
        train: { method: 'attempts', failuresPerStep: EQUAL_SAMPLES, steps: 3 * quick.steps },
      },
      {
        name: 'rejection',
        label: 'supervised on attempts that passed',
        train: {
          method: 'rejection-sampling',
          failuresPerStep: EQUAL_SAMPLES,
          loss: defaultTrainOptions().loss,
        },
      },
      {
        name: 'distilled',
        label: 'reflections rewarded, retries distilled',
        train: { distillationRate: 1e-4 },
      },
    ],
  },
  {
    name: 'failures',
    title: 'Whose failures',
    question: 'Do frozen failures cost anything beside fresh ones?',
    arms: [
      DEFAULT,
      {
        name: 'refreshed',
        label: 'failures mined anew every 20 steps',
        train: { firstAttempts: 'refreshed', refreshEvery: 20 },
      },
      { name: 'on-policy', label: 'failures of the current weights', train: { firstAttempts: 'on-policy' } },
      { name: 'refilled', label: 'groups without signal replaced', train: { zeroVariance: 'refill' } },
    ],
  },
  {
    name: 'retries',
    title: 'Retries per reflection',
    question: 'Is a reward from several retries worth its cost?',
    arms: [
      DEFAULT,
      { name: 'two-retries', label: '2 retries, mean', train: { retriesPerReflection: 2 } },
      { name: 'four-retries', label: '4 retries, mean', train: { retriesPerReflection: 4 } },
    ],
  },
  {
    name: 'beta',
    title: 'The KL term',
    question: 'How much does the weight of the KL term hold back or protect?',
    arms: [
      { name: 'beta-0', label: 'beta 0', train: { loss: { ...loss, beta: 0 } } },
      { name: 'beta-0.05', label: 'beta 0.05', train: { loss: { ...loss, beta: 0.05 } } },
      { ...DEFAULT, label: 'beta 0.2' },
      { name: 'beta-0.4', label: 'beta 0.4', train: { loss: { ...loss, beta: 0.4 } } },
    ],
  },
  {
    name: 'rarity',
    title: 'How common the useful kind is at the start',
    question: 'Does reward find a kind of reflection that the model hardly ever writes?',
    arms: [
      { ...DEFAULT, label: 'searches in 1% of reflections' },
      { name: 'common', label: 'searches in a quarter of reflections', start: 'common' },
    ],
  },
];

/** The arms of one experiment, or of all of them, each once. Throws for a name that does not exist. */
export function armsOf(name: string): Arm[] {
  const chosen = name === 'all' ? EXPERIMENTS : EXPERIMENTS.filter((experiment) => experiment.name === name);
  if (chosen.length === 0) {
    const names = EXPERIMENTS.map((experiment) => experiment.name).join(', ');
    throw new Error(`experiments: expected one of ${names} or all, got ${JSON.stringify(name)}`);
  }
  const arms = chosen.flatMap((experiment) => experiment.arms);
  return arms.filter(({ name: arm }, i) => arms.findIndex((other) => other.name === arm) === i);
}
