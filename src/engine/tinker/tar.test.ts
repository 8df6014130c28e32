/** Archives as services give them. */
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { tarOf } from '../../../test/tinker/tar.ts';
import { readTar } from './tar.ts';

const data = Buffer.from('weights');
const archive = tarOf([
  { name: 'adapter/adapter_config.json', data: Buffer.from('{}') },
  { name: 'adapter/adapter_model.safetensors', data },
]);

test.each([
  ['plain', archive],
  ['gzipped', gzipSync(archive)],
])('files of a %s archive are found by their names', (_, bytes) => {
  const files = readTar(bytes);
  expect([...files.keys()]).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
  expect(Buffer.from(files.get('adapter_model.safetensors') ?? [])).toEqual(data);
});

test('an archive that was cut off is refused', () => {
  expect(() => readTar(archive.subarray(0, 3 * 512 + 4))).toThrow('archive of a checkpoint: expected');
  expect(() => readTar(gzipSync(archive).subarray(0, 40))).toThrow('expected a gzip file');
});
