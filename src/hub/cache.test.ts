import { expect, test } from 'vitest';
import { repositoryFolder, repositoryOf, snapshotFolder } from './cache.ts';

test('the repository of a snapshot folder is the one that the folder was made for', () => {
  const commit = '0123456789abcdef0123456789abcdef01234567';
  for (const repository of ['org/name', 'gpt2', 'some-org/a--b']) {
    const folder = snapshotFolder(repositoryFolder('/cache/hub', repository), commit);
    expect(repositoryOf(folder)).toBe(repository);
    expect(repositoryOf(`${folder}/`)).toBe(repository);
  }
  expect(repositoryOf('/models/org/name')).toBeUndefined();
  expect(repositoryOf(`/cache/models--org--name/blobs/${commit}`)).toBeUndefined();
});
