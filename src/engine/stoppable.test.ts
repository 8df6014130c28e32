import { expect, test } from 'vitest';
import { makeFakeEngine } from './fake.ts';
import { stoppable } from './stoppable.ts';

const request = {
  prompt: [1],
  count: 1,
  params: { temperature: 1, maxTokens: 9, stopIds: [] },
  seed: 1,
} as const;
const script = (): number[] => [3, 4, 5, 6];

test('samples as the engine does until the signal is raised', async () => {
  const engine = makeFakeEngine(script);
  const { signal } = new AbortController();
  expect(await stoppable(engine, signal, 'stopped').sample(request)).toEqual(await engine.sample(request));
});

test('a signal ends the completions under way and refuses those that follow', async () => {
  const engine = makeFakeEngine(script);
  const controller = new AbortController();
  const stopping = stoppable(engine, controller.signal, 'stopped; nothing was kept');
  const underWay = stopping.sample({ ...request, onToken: () => controller.abort() });
  const expected = { code: 'cancelled', message: 'stopped; nothing was kept' };
  await expect(underWay).rejects.toMatchObject(expected);
  expect((await engine.stats()).sampledTokens).toBe(1);
  await expect(stopping.sample(request)).rejects.toMatchObject(expected);
  expect(engine.calls.samples).toHaveLength(1);
});

test("a request's own signal still ends it, without an error", async () => {
  const own = new AbortController();
  const stopping = stoppable(makeFakeEngine(script), new AbortController().signal, 'stopped');
  const [completion] = await stopping.sample({
    ...request,
    signal: own.signal,
    onToken: () => own.abort(),
  });
  expect(completion).toMatchObject({ tokens: [3], stopReason: 'cancelled' });
});
