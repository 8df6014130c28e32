/** The counters of an engine that has just been opened. */
import type { EngineStats } from './engine.ts';

export function noStats(): EngineStats {
  return {
    sampledTokens: 0,
    prefilledTokens: 0,
    cachedTokens: 0,
    trainedTokens: 0,
    unsharedTokens: 0,
    sampleSeconds: 0,
    trainSeconds: 0,
    peakBytes: 0,
  };
}
