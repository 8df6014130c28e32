/**
 * The engine on a Tinker-compatible service: an adapter there, the losses here.
 *
 * forwardBackward is a forward pass there, and the loss, a pure function, here; its derivative by each log-probability
 * is kept here. step sends the backward passes and the optimizer's step together. So a gradient can be forgotten, a
 * loss that fails leaves nothing on the service, and the number of datums of a step, which some reductions need, is
 * known. A step that fails on its way may have moved the weights: training is then refused until loadState.
 *
 * Current weights are sampled from a snapshot, made at the first sample after a step. The reference is the base model.
 * Log-probabilities of a service are those at temperature 1: it trains and scores at no other, and a sample at another
 * temperature comes with the log-probabilities at 1.
 *
 * A state is a small file with the path of a checkpoint on the service. What the service computes is not the same to
 * the bit from one run to the next.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { noStats } from '../stats.ts';
import { R3Error } from '../../lib/errors.ts';
import { readTextFile, writeDirectoryAtomic, writeFileAtomic } from '../../lib/files.ts';
import { parseJsonObject } from '../../lib/json.ts';
import { hash32 } from '../../lib/rng.ts';
import { makeCallOrder } from '../call-order.ts';
import type { Capabilities, Completion, Datum, Engine, SampleRequest, TokenIds } from '../engine.ts';
import { ADAPTER_CONFIG } from '../local/adapter-files.ts';
import { openSafetensors } from '../local/safetensors.ts';
import {
  openTinkerClient,
  type Sampler,
  type TinkerClient,
  type TinkerClientOptions,
  type TrainingModel,
} from './client.ts';
import { badAnswer } from './errors.ts';
import { KEY_VARIABLE } from './requests.ts';
import { parseServerUrl } from '../http.ts';
import { atPositions, scoringDatum, surrogateOf, type Derivative, type Reduction } from './losses.ts';
import { probeSampling, probeTraining } from './probe.ts';
import { gradientNormIn, recogniseServer, type Ignorable, type ServerTraits } from './servers.ts';
import { readTar } from './tar.ts';

export interface TinkerEngineOptions extends Omit<TinkerClientOptions, 'limits' | 'clock'> {
  /** The base model, by the service's name for it. */
  baseModel: string;
  /** Of the base model; nothing on the wire says it. */
  vocabularySize: number;
  /** Default: what the service says. */
  contextLength?: number | undefined;
  /** The adapter to train. Left out: an engine for sampling alone. */
  lora?: { rank: number; seed: number } | undefined;
  /** A checkpoint for samplers, tinker://..., to sample from in place of the base model. */
  modelPath?: string | undefined;
  /** The checkpoint for training of the same weights: what is sampled on services that sample loaded adapters alone. */
  statePath?: string | undefined;
  /** Where the base model's files are on this machine: written into adapters that are saved. */
  localModel?: string | undefined;
  clock?: TinkerClientOptions['clock'];
  limits?: TinkerClientOptions['limits'];
}

export interface TinkerEngine extends Engine {
  /** What was found of the service, for the configuration of a run. */
  service(): ServiceFacts;
}

export interface ServiceFacts {
  /** Without credentials and query. */
  url: string;
  server: string;
  dialect: string;
  baseModel: string;
  /** Null for an engine that only samples. */
  rank: number | null;
  reduction: Reduction | null;
  snapshots: boolean;
  ignores: string[];
}

/** The scale of adapters is this divided by the rank, on every service known. */
const ALPHA = 32;
const STATE_FILE = 'tinker-state.json';
const STATE_VERSION = 1;
const MAX_STATE_BYTES = 1 << 16;
/** Where a saved adapter came from. */
export const ORIGIN_FILE = 'tinker.json';
const WEIGHTS_FILE = 'adapter_model.safetensors';
/** Services draw completion i from seed + i, and may take 31 bits: room for so many completions. */
const SEEDS = 2 ** 31 - 4096;
/** A service that is gone is not waited for. */
const UNLOAD_MS = 5000;

/** Connects, makes the adapter, and finds out what the service does with losses and options. Throws R3Error. */
export async function openTinkerEngine(options: TinkerEngineOptions): Promise<TinkerEngine> {
  const url = parseServerUrl(options.url, KEY_VARIABLE);
  const client = await openTinkerClient(options);
  try {
    return await makeEngine(client, url, options);
  } catch (error) {
    await client.close();
    throw error;
  }
}

async function makeEngine(
  client: TinkerClient,
  url: string,
  options: TinkerEngineOptions,
): Promise<TinkerEngine> {
  const { baseModel, vocabularySize, lora, modelPath, statePath } = options;
  const contextLength = await contextOf(client, options);
  const baseSampler = await client.createSampler({ baseModel });
  let traits: ServerTraits = recogniseServer({ url, modelId: modelPath?.split('/')[2] });
  const ignores = new Set<Ignorable>();
  let reduction: Reduction | null = null;
  let model: TrainingModel | undefined;
  /** Adapters that were loaded to be sampled. */
  const held: TrainingModel[] = [];
  if (lora !== undefined) {
    const scratch = await createModel(lora);
    const found = await probeTraining(scratch, vocabularySize).finally(() => unload(scratch));
    traits = recogniseServer({ url, modelId: scratch.modelId, metrics: found.metrics });
    ({ reduction } = found);
    for (const option of [...traits.ignores, ...found.ignores]) ignores.add(option);
    model = await freshModel(lora);
  }
  const unsure = (['seed', 'topK', 'topP'] as const).filter(
    (option) => !traits.honours.includes(option) && !ignores.has(option),
  );
  for (const option of await probeSampling(baseSampler, unsure, vocabularySize)) ignores.add(option);

  const order = makeCallOrder();
  const stats = noStats();
  /** What the next step learns from. */
  let pending: Derivative[] = [];
  let snapshot: Promise<Sampler> | undefined;
  const sampling = new Set<Promise<unknown>>();
  /** Why the weights on the service are not known to be those that this engine stands for. */
  let unsettled: unknown;
  let isClosed = false;

  async function createModel({ rank, seed }: { rank: number; seed: number }): Promise<TrainingModel> {
    const wire = { rank, seed: seed % SEEDS, trainUnembed: false, trainMlp: true, trainAttn: true };
    return client.createModel({ baseModel, lora: wire });
  }
  /** An adapter without anybody's gradients. A step takes them away, and with the adapter made anew the step is undone. */
  async function freshModel(wanted: { rank: number; seed: number }): Promise<TrainingModel> {
    if (!traits.leaksGradients) return createModel(wanted);
    const used = await createModel(wanted);
    await used.optimStep({ ...NO_STEP });
    await unload(used);
    return createModel(wanted);
  }
  async function unload(one: TrainingModel): Promise<void> {
    // Not every service has the call; the place is then given back when the session ends.
    await one.unload().catch(() => undefined);
  }

  const checkOpen = (): void => {
    if (isClosed) throw new R3Error('engine', 'cancelled', 'the engine was closed');
  };
  const trained = (): TrainingModel => {
    checkOpen();
    if (model === undefined)
      throw new R3Error('engine', 'bad-option', 'training: expected a trainable engine, got a sampler');
    if (unsettled === undefined) return model;
    throw new R3Error(
      'engine',
      'incomplete',
      'training: expected steps that went through, got one that failed on its way and may have moved the weights; resume from the last checkpoint',
      { cause: unsettled },
    );
  };
  const checkTokens = (tokens: TokenIds, length = tokens.length): void => {
    const bad = tokens.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
    if (bad !== undefined) {
      const message = `tokens: expected ids from 0 to ${vocabularySize - 1}, got ${bad}`;
      throw new R3Error('engine', 'bad-option', message);
    }
    if (length <= contextLength) return;
    const message = `sequence: expected at most ${contextLength} tokens, got ${length}`;
    throw new R3Error('engine', 'too-long', message);
  };
  const checkDatums = (datums: readonly Datum[], temperature = 1): void => {
    checkOpen();
    if (temperature !== 1) {
      const message = `temperature: expected 1, at which a Tinker-compatible service scores and trains, got ${temperature}`;
      throw new R3Error('engine', 'bad-option', message);
    }
    for (const { tokens, positions } of datums) {
      checkTokens(tokens);
      const bad = positions.find((at, i) => !(at > (positions[i - 1] ?? 0)) || at >= tokens.length);
      if (bad === undefined) continue;
      const message = `positions: expected ascending ones from 1 to ${tokens.length - 1} in a sequence of ${tokens.length} tokens, got ${bad}`;
      throw new R3Error('engine', 'bad-shape', message);
    }
  };
  const timed = async <T>(kind: 'sampleSeconds' | 'trainSeconds', work: () => Promise<T>): Promise<T> => {
    const started = performance.now();
    try {
      return await work();
    } finally {
      stats[kind] += (performance.now() - started) / 1000;
    }
  };

  /** Log-probabilities by a forward pass of the adapter. A request without datums is never sent: some services never answer it. */
  const forward = async (datums: readonly Datum[]): Promise<Float32Array[]> => {
    const asked = datums.filter(({ positions }) => positions.length > 0);
    if (asked.length === 0) return datums.map(() => new Float32Array());
    const wire = asked.map(({ tokens }) => scoringDatum(tokens));
    const { outputs } = await trained().forward(wire, 'cross_entropy');
    const found = new Map(asked.map((datum, i) => [datum, outputs[i]?.['logprobs'] ?? new Float32Array()]));
    return datums.map((datum) =>
      finite(atPositions(found.get(datum) ?? new Float32Array(), datum.positions)),
    );
  };
  /** The same by a sampler, which gives those of the prompt. */
  const scoreBy = (sampler: Sampler, datums: readonly Datum[]): Promise<Float32Array[]> =>
    Promise.all(
      datums.map(async ({ tokens, positions }) => {
        if (positions.length === 0) return new Float32Array();
        const asked = { prompt: tokens, count: 1, maxTokens: 1, temperature: 1, promptLogprobs: true };
        const { promptLogprobs } = await sampler.sample(asked);
        stats.prefilledTokens += tokens.length;
        return finite(Float32Array.from(positions, (at) => promptLogprobs?.[at] ?? Number.NaN));
      }),
    );

  /** Of the weights after the calls that were made before. */
  const currentSampler = (): Promise<Sampler> => {
    if (snapshot !== undefined) return snapshot;
    const made =
      lora !== undefined
        ? order.inOrder(() => trained().saveForSampler())
        : modelPath === undefined
          ? Promise.resolve(baseSampler)
          : statePath === undefined || traits.snapshots
            ? client.createSampler({ modelPath })
            : loadedSampler(statePath);
    // One that could not be made is made anew by the next who asks.
    made.catch(() => {
      if (snapshot === made) snapshot = undefined;
    });
    snapshot = made;
    return made;
  };

  /** Of a checkpoint for training, loaded into an adapter of its own. */
  const loadedSampler = async (path: string): Promise<Sampler> => {
    const { rank } = await client.weightsInfo(path);
    if (rank === undefined) throw badAnswer('weights_info', 'the rank of an adapter', 'none');
    const loaded = await createModel({ rank, seed: 0 });
    held.push(loaded);
    await loaded.loadWeights(path, false);
    return loaded.saveForSampler();
  };

  const sample = async (request: SampleRequest): Promise<Completion[]> => {
    const { prompt, count, params, signal, onToken } = request;
    checkOpen();
    checkParams(params);
    checkTokens(prompt, prompt.length + params.maxTokens);
    const { temperature, maxTokens, topK, topP, stopIds } = params;
    const cancelled = (): Completion[] =>
      Array.from({ length: count }, () => ({ tokens: [], logprobs: [], stopReason: 'cancelled' }));
    if (signal?.aborted === true) return cancelled();
    const seed = hash32(request.seed, 0, 0) % SEEDS;
    const asked = { prompt, count, maxTokens, temperature, topK, topP, stopIds, seed, signal };
    try {
      const { sequences } = await (await currentSampler()).sample(asked);
      stats.prefilledTokens += prompt.length;
      return sequences.map(({ tokens, logprobs, stopReason }, index) => {
        if (logprobs === null) {
          const message = 'result of asample: expected log-probabilities of what was sampled, got none';
          throw new R3Error('engine', 'bad-answer', message);
        }
        stats.sampledTokens += tokens.length;
        if (onToken !== undefined)
          tokens.forEach((token, t) => onToken(index, token, logprobs[t] ?? Number.NaN));
        return { tokens: [...tokens], logprobs: [...logprobs], stopReason };
      });
    } catch (error) {
      const isCancelled = error instanceof R3Error && error.code === 'cancelled';
      if (isCancelled && request.signal?.aborted === true && !isClosed) return cancelled();
      throw error;
    }
  };

  /** `save` under a name that nobody has. A resend of a call that went through finds its own name taken. */
  const underNewName = async (save: (name: string) => Promise<string>): Promise<string> => {
    const name = (): string => `r3-${randomBytes(8).toString('hex')}`;
    return save(name()).catch((error: unknown) => {
      if (error instanceof R3Error && error.code === 'mismatch') return save(name());
      throw error;
    });
  };

  const facts = (): ServiceFacts => ({
    url,
    server: traits.name,
    dialect: client.dialect,
    baseModel,
    rank: lora?.rank ?? null,
    reduction,
    snapshots: traits.snapshots,
    ignores: [...ignores],
  });
  const capabilities: Capabilities = {
    name: 'tinker',
    trainable: lora !== undefined,
    contextLength,
    vocabularySize,
    description: `${traits.name} over the Tinker protocol (${client.dialect}${reduction === null ? '' : `, losses by ${reduction}`})`,
    modelHash: createHash('sha256')
      .update(`tinker ${modelPath ?? baseModel}`)
      .digest('hex'),
    scoresAt: 1,
    ...(ignores.size === 0 ? {} : { ignores: [...ignores] }),
  };

  return {
    service: facts,
    capabilities: () => capabilities,
    sample: (request) => {
      const work = timed('sampleSeconds', () => sample(request));
      sampling.add(work);
      const done = (): void => void sampling.delete(work);
      work.then(done, done);
      return work;
    },
    logprobs: async (datums, { temperature, weights = 'current' } = {}) => {
      checkDatums(datums, temperature);
      if (weights === 'reference') return scoreBy(baseSampler, datums);
      if (lora === undefined) return scoreBy(await currentSampler(), datums);
      return order.inOrder(() => timed('trainSeconds', () => forward(datums)));
    },
    forwardBackward: (datums, loss, { temperature } = {}) =>
      order.adding(() =>
        timed('trainSeconds', async () => {
          trained();
          checkDatums(datums, temperature);
          const logprobs = await forward(datums);
          const result = loss(logprobs);
          datums.forEach(({ tokens, positions }, i) => {
            stats.trainedTokens += tokens.length;
            stats.unsharedTokens += tokens.length;
            const gradient = result.gradients[i];
            if (gradient?.length !== positions.length || !gradient.every(Number.isFinite)) {
              const message = `gradient of datum ${i}: expected ${positions.length} finite numbers, got others`;
              throw new R3Error('engine', 'bad-shape', message);
            }
          });
          datums.forEach(({ tokens, positions }, i) => {
            if (positions.length > 0)
              pending.push({ tokens, positions, gradient: result.gradients[i] as Float32Array });
          });
          return { ...result, logprobs };
        }),
      ),
    step: (adam) => {
      // What is sampled from now on waits for the step.
      snapshot = undefined;
      const before = traits.snapshots ? [] : [...sampling];
      return order.stepping(() =>
        timed('trainSeconds', async () => {
          const on = trained();
          await Promise.allSettled(before);
          const { learningRate, beta1, beta2, epsilon, weightDecay, maxGradNorm } = adam;
          const wire = { learningRate, beta1, beta2, epsilon, weightDecay, gradClipNorm: maxGradNorm ?? 0 };
          const { data, lossName, config } = surrogateOf(pending, reduction ?? 'sum');
          const [backward, stepped] = await Promise.allSettled([
            data.length === 0 ? undefined : on.forwardBackward(data, lossName, config),
            on.optimStep(wire),
          ]);
          for (const { status, reason } of [backward, stepped] as PromiseRejectedResult[]) {
            if (status !== 'rejected') continue;
            unsettled = reason;
            throw reason;
          }
          pending = [];
          const { metrics } = (stepped as PromiseFulfilledResult<{ metrics: Record<string, number> }>).value;
          return { gradientNorm: gradientNormIn(metrics) ?? Number.NaN, learningRate };
        }),
      );
    },
    gradientNorms: async () => {
      checkOpen();
      throw new R3Error(
        'engine',
        'not-available',
        'gradientNorms: expected an engine that gives the gradient of each parameter, got a service that keeps it to itself',
      );
    },
    zeroGradients: () =>
      order.clearing(async () => {
        checkOpen();
        pending = [];
      }),
    save: (directory) =>
      order.inOrder(() =>
        writeDirectoryAtomic(directory, async (partial) => {
          const on = trained();
          const path = await underNewName((name) => on.saveForSamplerAs(name));
          const archive = await archiveOf(client, path).catch((error: unknown) => {
            if (error instanceof R3Error && NO_ARCHIVE.includes(error.code)) return error;
            throw error;
          });
          if (archive instanceof R3Error)
            options.onNotice?.(
              `${archive.message}; ${directory} has the paths of the weights, and no adapter`,
            );
          else writeAdapter(partial, readTar(archive), options.localModel ?? baseModel);
          const forTraining = await underNewName((name) => on.saveWeights(name));
          const origin = { version: STATE_VERSION, path, statePath: forTraining, baseModel, url };
          writeFileAtomic(join(partial, ORIGIN_FILE), `${JSON.stringify(origin, null, 2)}\n`);
        }),
      ),
    saveState: (directory) =>
      order.inOrder(() =>
        writeDirectoryAtomic(directory, async (partial) => {
          const on = trained();
          const path = await underNewName((name) => on.saveWeights(name));
          const state = { version: STATE_VERSION, path, baseModel, rank: lora?.rank };
          writeFileAtomic(join(partial, STATE_FILE), `${JSON.stringify(state, null, 2)}\n`);
        }),
      ),
    loadState: (directory) => {
      snapshot = undefined;
      return order.clearing(async () => {
        checkOpen();
        if (lora === undefined || model === undefined) {
          throw new R3Error('engine', 'bad-option', 'state: expected a trainable engine, got a sampler');
        }
        const path = readState(directory, baseModel, lora.rank);
        const info = await client.weightsInfo(path);
        if (info.rank !== undefined && info.rank !== lora.rank) {
          const message = `${path}: expected an adapter of rank ${lora.rank}, got one of rank ${info.rank}`;
          throw new R3Error('store', 'mismatch', message);
        }
        await Promise.allSettled(sampling);
        await unload(model);
        // Services load weights into new adapters only.
        model = await freshModel(lora);
        await model.loadWeights(path, true);
        pending = [];
        unsettled = undefined;
      });
    },
    stats: async () => ({ ...stats }),
    close: async () => {
      if (isClosed) return;
      isClosed = true;
      const places = model === undefined ? held : [model, ...held];
      if (places.length > 0) {
        const enough = new AbortController();
        const late = sleep(UNLOAD_MS, undefined, { signal: enough.signal }).catch(() => undefined);
        await Promise.race([Promise.all(places.map(unload)), late]);
        enough.abort();
      }
      await client.close();
    },
  };
}

/** Errors of a service that has no archives of checkpoints: 404 and 405. */
const NO_ARCHIVE: readonly string[] = ['not-found', 'bad-option'];

/** Moves nothing, and forgets what had accumulated. */
const NO_STEP = { learningRate: 0, beta1: 0, beta2: 0, epsilon: 1, weightDecay: 0, gradClipNorm: 0 };

async function contextOf(
  client: TinkerClient,
  { baseModel, contextLength }: TinkerEngineOptions,
): Promise<number> {
  const supported = await client.supportedModels().catch((error: unknown) => {
    if (error instanceof R3Error && error.code === 'not-found') return [];
    throw error;
  });
  const known = supported.find(({ name }) => name === baseModel);
  if (known === undefined && supported.length > 0) {
    const names = supported.map(({ name }) => name).join(', ');
    throw new R3Error(
      'engine',
      'not-found',
      `model: expected one that the service has (${names}), got ${baseModel}`,
    );
  }
  const limit = known?.maxContextLength;
  const length = Math.min(contextLength ?? Infinity, limit ?? Infinity);
  if (Number.isFinite(length)) return length;
  throw new R3Error(
    'engine',
    'bad-option',
    'context: expected --context, since the service does not say its own, got none',
  );
}

/** A path of two parts, as some services give them, may be known under three. */
async function archiveOf(client: TinkerClient, path: string): Promise<Buffer> {
  const parts = /^(tinker:\/\/[^/]+)\/([^/]+)$/.exec(path);
  return client.archive(path).catch((error: unknown) => {
    if (parts === null || !(error instanceof R3Error && error.code === 'not-found')) throw error;
    return client.archive(`${parts[1]}/sampler_weights/${parts[2]}`);
  });
}

function checkParams({ temperature, maxTokens, minP = 0 }: SampleRequest['params']): void {
  if (!(temperature >= 0 && maxTokens > 0)) {
    const message = `sampling: expected a temperature of at least 0 and maxTokens above 0, got ${temperature} and ${maxTokens}`;
    throw new R3Error('engine', 'bad-option', message);
  }
  if (minP === 0) return;
  throw new R3Error(
    'engine',
    'bad-option',
    `minP: expected none, since the Tinker protocol has no such option, got ${minP}`,
  );
}

function finite(logprobs: Float32Array): Float32Array {
  if (logprobs.every(Number.isFinite)) return logprobs;
  throw new R3Error(
    'engine',
    'bad-answer',
    'log-probabilities: expected a finite number for each position, got others',
  );
}

/** The checkpoint of a state. Throws R3Error `bad-file` and `mismatch`. */
function readState(directory: string, baseModel: string, rank: number): string {
  const file = join(directory, STATE_FILE);
  if (!existsSync(file)) {
    throw new R3Error(
      'engine',
      'bad-file',
      `${file}: expected the state of a run on a Tinker-compatible service, got no file`,
    );
  }
  const state = parseJsonObject(readTextFile(file, MAX_STATE_BYTES));
  const { path } = state;
  if (state['version'] !== STATE_VERSION || typeof path !== 'string') {
    throw new R3Error(
      'engine',
      'bad-file',
      `${file}: expected version ${STATE_VERSION} and the path of a checkpoint, got others`,
    );
  }
  if (state['baseModel'] === baseModel && state['rank'] === rank) return path;
  const got = `${String(state['baseModel'])} of rank ${String(state['rank'])}`;
  throw new R3Error(
    'engine',
    'mismatch',
    `${file}: expected an adapter on ${baseModel} of rank ${rank}, got one on ${got}`,
  );
}

/** The archive's adapter in PEFT's layout, with what some services leave out of its config. */
function writeAdapter(directory: string, files: ReadonlyMap<string, Uint8Array>, base: string): void {
  const [weights, configBytes] = [files.get(WEIGHTS_FILE), files.get(ADAPTER_CONFIG)];
  if (weights === undefined || configBytes === undefined) {
    const got = [...files.keys()].join(', ') || 'none';
    throw new R3Error(
      'engine',
      'bad-answer',
      `archive of a checkpoint: expected ${ADAPTER_CONFIG} and ${WEIGHTS_FILE}, got ${got}`,
    );
  }
  writeFileAtomic(join(directory, WEIGHTS_FILE), weights);
  const opened = openSafetensors(join(directory, WEIGHTS_FILE));
  const names = [...opened.tensors.keys()];
  opened.close();
  const modules = names.flatMap((name) => /([^.]+)\.lora_A\./.exec(name)?.[1] ?? []);
  const config = parseJsonObject(Buffer.from(configBytes).toString('utf8'));
  const filled = {
    ...config,
    base_model_name_or_path: base,
    task_type: config['task_type'] ?? 'CAUSAL_LM',
    lora_alpha: config['lora_alpha'] ?? ALPHA,
    target_modules: config['target_modules'] ?? [...new Set(modules)],
  };
  writeFileAtomic(join(directory, ADAPTER_CONFIG), `${JSON.stringify(filled, null, 2)}\n`);
}
