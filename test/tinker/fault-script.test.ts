/**
 * Client and engine under random faults: what they answer, and the state that the service is left in, are those
 * without faults. No step is done twice, no datum is counted twice or lost, every promise settles.
 *
 * A case that fails says its seeds; FAULT_CASE="KIND SCRIPT DRAW" in the environment runs it alone.
 */
import { expect, test } from 'vitest';
import { openTinkerClient } from '../../src/engine/tinker/client.ts';
import { hash32 } from '../../src/lib/rng.ts';
import { drawService, playClient } from './client-script.ts';
import { openOn, playEngine, trainInSteps } from './engine-script.ts';
import { playInVirtualTime, playOnSockets, type Stage } from './fault-case.ts';
import { ENDING_FAULTS, PASSING_FAULTS, PATIENT_FAULTS, randomFaults, type FaultScript } from './faults.ts';
import { makeLinearBackend } from './linear-backend.ts';
import { makeScriptedBackend } from './scripted-backend.ts';
import type { TinkerServer } from './server.ts';

/** What a script led to. */
interface Ended {
  /** The same with faults and without. */
  outcome: unknown;
  server: TinkerServer;
}
type Script = (seed: number, faultScript: FaultScript | undefined) => Promise<Ended>;
type DrawFaults = (seed: number, draw: number) => FaultScript;

const [onlyKind, onlyScript, onlyDraw] = (process.env['FAULT_CASE'] ?? '')
  .split(' ')
  .filter((word) => word !== '');

/** Each script without faults, and with `draws` draws of them. Returns how many faults were met. */
async function compare(
  kind: string,
  counts: { scripts: number; draws: number },
  play: Script,
  drawFaults: DrawFaults,
): Promise<number> {
  const only = (chosen: string | undefined, count: number): number[] =>
    chosen === undefined ? Array.from({ length: count }, (_, i) => i) : [Number(chosen)];
  let hits = 0;
  for (const script of only(onlyScript, counts.scripts)) {
    const plain = await play(script, undefined);
    const one = async (draw: number): Promise<void> => {
      const name = `FAULT_CASE="${kind} ${script} ${draw}"`;
      const faulty = await play(script, drawFaults(hash32(script, draw, 0), draw)).catch((cause: unknown) => {
        throw new Error(name, { cause });
      });
      expect(faulty.outcome, name).toEqual(plain.outcome);
      hits += faulty.server.log.filter(({ fault }) => fault !== undefined).length;
    };
    await Promise.all(only(onlyDraw, counts.draws).map(one));
  }
  return hits;
}

/** From few faults to one for every other request. */
const rateOf = (draw: number): number => 0.05 * (1 + (draw % 10));
const patient: DrawFaults = (seed, draw) =>
  randomFaults({ seed, rate: rateOf(draw), faults: PATIENT_FAULTS });
const hurried: DrawFaults = (seed, draw) =>
  randomFaults({ seed, rate: rateOf(draw), faults: PASSING_FAULTS });

const MOST_ENDINGS = 4;
/** Some requests end what there is for good; between them there are faults that pass. */
const ending: DrawFaults = (seed, draw) => {
  const passing = randomFaults({ seed, rate: 0.1 * (draw % 3), faults: PATIENT_FAULTS });
  const last = randomFaults({ seed: seed + 1, rate: 0.02 * (1 + (draw % 5)), faults: ENDING_FAULTS });
  let left = MOST_ENDINGS;
  return (endpoint) => {
    const fault = left > 0 ? last(endpoint) : undefined;
    if (fault !== undefined) left--;
    return fault ?? passing(endpoint);
  };
};

const clientScript =
  (carrier: 'virtual time' | 'sockets'): Script =>
  async (seed, faultScript) => {
    const backend = makeScriptedBackend();
    const { dialect, ...service } = drawService(seed);
    const options = { backend, ...service, ...(faultScript && { faultScript }) };
    const play = async ({ connection }: Stage): Promise<string[]> => {
      const client = await openTinkerClient({ ...connection, dialect });
      const told = await playClient(client, seed);
      await client.close();
      return told;
    };
    const { result: told, server } = await (carrier === 'sockets'
      ? playOnSockets(options, play)
      : playInVirtualTime(seed, options, play));
    const { models, lateOperations } = server.stats();
    const { samples, completions: _, ...done } = backend.counts;
    // A sample whose result was lost is asked for anew, and no other.
    const lost = server.log.filter(({ fault }) => fault === 'lost').length;
    const asked = told.filter((line) => line.startsWith('sample ')).length;
    expect(samples, 'samples').toBeLessThanOrEqual(asked + lost);
    await server.close();
    return { outcome: { told, done, weights: backend.weights(), models, lateOperations }, server };
  };

const engineScript: Script = async (seed, faultScript) => {
  const { dialect, ...service } = drawService(seed);
  const backend = makeLinearBackend(service.quirks.lossReduction);
  const options = { backend, ...service, ...(faultScript && { faultScript }) };
  const { result: told, server } = await playInVirtualTime(seed, options, async ({ connection }) => {
    const engine = await openOn(connection, dialect);
    const lines = await playEngine(engine, seed);
    await engine.close();
    return lines;
  });
  await server.close();
  return { outcome: { told, counts: backend.counts }, server };
};

const trainingScript: Script = async (seed, faultScript) => {
  const { dialect, ...service } = drawService(seed);
  const backend = makeLinearBackend(service.quirks.lossReduction);
  const options = { backend, ...service, ...(faultScript && { faultScript }) };
  const { result, server } = await playInVirtualTime(seed, options, ({ connection }) =>
    trainInSteps(() => openOn(connection, dialect), seed, 3),
  );
  // Each ending is one error; its code says that a resume helps.
  const codes = result.errors.map(({ code }) => code);
  expect(codes.length).toBeLessThanOrEqual(faultScript === undefined ? 0 : MOST_ENDINGS);
  expect(['expired', 'failed', 'incomplete', 'not-found']).toEqual(expect.arrayContaining(codes));
  await server.close();
  return { outcome: result.steps, server };
};

/** Name, scripts, draws of faults for each, and at least how many faults all of them meet. */
const KINDS: [
  kind: string,
  scripts: number,
  draws: number,
  hits: number,
  play: Script,
  drawFaults: DrawFaults,
][] = [
  ['client', 180, 10, 10_000, clientScript('virtual time'), patient],
  ['sockets', 3, 10, 200, clientScript('sockets'), hurried],
  ['engine', 8, 10, 2000, engineScript, patient],
  ['training', 8, 10, 1000, trainingScript, ending],
];

test.each(KINDS.filter(([kind]) => onlyKind === undefined || kind === onlyKind))(
  'random faults change nothing: %s, %i scripts with %i draws of them',
  async (kind, scripts, draws, least, play, drawFaults) => {
    const hits = await compare(kind, { scripts, draws }, play, drawFaults);
    if (onlyScript === undefined) expect(hits).toBeGreaterThan(least);
  },
  300_000,
);
