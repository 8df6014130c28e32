import { expect, test } from 'vitest';
import { countFaults, playEpisodes } from './remote.ts';

test('a bench of episodes on a service counts every sample once', async () => {
  const result = await playEpisodes({ inFlight: 20, rounds: 2, latencyMs: 1, warmUp: 1 });
  expect(result).toMatchObject({ samples: 80, lost: 0, doubled: 0 });
  // Each sample is a request and at least one poll.
  expect(result.server.requests).toBeGreaterThanOrEqual(160);
  expect(result.server.connections).toBeGreaterThanOrEqual(20);
}, 60_000);

test('samples that did not come or were served twice are counted', () => {
  expect(countFaults([1, 1, 1, 1], [1, 1, 1, 1])).toEqual({ lost: 0, doubled: 0 });
  expect(countFaults([1, 0, 1, 2], [1, 1, 3, 1])).toEqual({ lost: 1, doubled: 2 });
});
