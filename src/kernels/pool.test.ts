/**
 * The thread pool under stress: thousands of short jobs of different lengths, with more threads than cores, so that
 * threads are late. A chunk that is lost, run twice or run for the wrong job shows as wrong bits or as a hang.
 */
import { expect, test } from 'vitest';
import { explainKernels, loadKernels } from './load.ts';

const builds = explainKernels().filter(({ build, available }) => available && build !== 'reference');
const JOBS = 3000;

test.each(builds.map(({ build }) => build))('%s: every job of many is done once', async (build) => {
  const ops = await loadKernels({ build, threads: 3 });
  const [K, C] = [64, 96];
  const source = ops.f32(K * C);
  source.forEach((_, i) => (source[i] = Math.sin(i)));
  const packed = ops.f32(ops.packedLength(K, C, 'f32'));
  ops.pack(packed, source, K, C, 0, C, C, 1, 'f32');
  const jobs = [40, 96, 300].map((rows) => ({
    rows,
    out: ops.f32(rows * C),
    x: ops.f32(rows * K),
    expected: new Float32Array(0),
  }));
  const run = ({ rows, out, x }: (typeof jobs)[number]): void =>
    ops.gemm(rows, C, K, x, K, 1, packed, out, false, 'f32');
  for (const job of jobs) {
    job.x.forEach((_, i) => (job.x[i] = Math.cos(i)));
    run(job);
    job.expected = job.out.slice();
  }
  for (let i = 0; i < JOBS; i++) {
    const job = jobs[i % jobs.length]!;
    if (i % 100 < jobs.length) job.out.fill(0);
    run(job);
    if (i % 100 < jobs.length) expect(job.out).toEqual(job.expected);
  }
  ops.close();
});
