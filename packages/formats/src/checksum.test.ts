import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { sha256File, verifyManifest, writeManifest } from './checksum.ts';

// A RegExp inside toMatchObject matches every string.
const matching = (pattern: RegExp) => expect.stringMatching(pattern) as string;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'finetable-'));
  await mkdir(join(folder, 'sub'));
  await writeFile(join(folder, 'b'), 'abc');
  await writeFile(join(folder, 'sub', 'a'), '');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

// FIPS 180-2, appendix B.1, and the empty message; the long one is what coreutils' sha256sum gives.
const abc = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
const empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

test('checksums of files, also longer than a block', async () => {
  expect(await sha256File(join(folder, 'b'))).toBe(abc);
  expect(await sha256File(join(folder, 'sub', 'a'))).toBe(empty);
  await writeFile(join(folder, 'long'), 'a'.repeat(3_000_000));
  expect(await sha256File(join(folder, 'long'))).toBe(
    '2a152c894398719c0570f83fac34ac03a0f6e8e474b995c2403aa5434f7b9dd4',
  );
  await expect(sha256File(join(folder, 'none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(sha256File(folder)).rejects.toMatchObject({ code: 'INVALID_FILE', message: matching(/is a folder/) });
});

test('a manifest lists every file, sorted, and is not in itself', async () => {
  const entries = [
    { name: 'b', bytes: 3, sha256: abc },
    { name: 'sub/a', bytes: 0, sha256: empty },
  ];
  await writeManifest(folder);
  const first = await readFile(join(folder, 'manifest.json'), 'utf8');
  await writeManifest(folder);
  expect(await readFile(join(folder, 'manifest.json'), 'utf8')).toBe(first);
  expect(JSON.parse(first)).toEqual({ format: 1, files: entries });
  await writeFile(join(folder, 'new'), 'not listed');
  expect(await verifyManifest(folder)).toEqual(entries);
});

test('damage is named with what was expected and found', async () => {
  await writeManifest(folder);
  await writeFile(join(folder, 'b'), 'abd');
  await expect(verifyManifest(folder)).rejects.toMatchObject({
    code: 'INVALID_FILE',
    details: {
      file: join(folder, 'b'),
      expected: `SHA-256 ${abc}`,
      found: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    },
  });
  await writeFile(join(folder, 'b'), 'abcd');
  await expect(verifyManifest(folder)).rejects.toThrow(/expected 3 bytes .*found 4 bytes/);
  await rm(join(folder, 'b'));
  await expect(verifyManifest(folder)).rejects.toThrow(/expected 3 bytes .*found no file/);
});

test.each([
  ['{"format":2,"files":[]}', /format is 2; allowed: 1/],
  ['{"format":1}', /files is null; allowed: a list/],
  [`{"format":1,"files":[{"name":"../b","bytes":3,"sha256":"${abc}"}]}`, /files\[0\].name is "..\/b"/],
  [`{"format":1,"files":[{"name":"/etc/passwd","bytes":3,"sha256":"${abc}"}]}`, /files\[0\].name/],
  [`{"format":1,"files":[{"name":"b","bytes":-3,"sha256":"${abc}"}]}`, /files\[0\].bytes is -3/],
  ['{"format":1,"files":[{"name":"b","bytes":3,"sha256":"x"}]}', /files\[0\].sha256 is "x"/],
  ['{"format":1,"files":[7]}', /files\[0\].name is null/],
  ['[]', /the JSON is an array; allowed: an object/],
])('refuses the manifest %s', async (text, message) => {
  await writeFile(join(folder, 'manifest.json'), text);
  await expect(verifyManifest(folder)).rejects.toMatchObject({ code: 'INVALID_FILE', message: matching(message) });
});

test('no manifest, and what has no checksum', async () => {
  await expect(verifyManifest(folder)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await symlink('b', join(folder, 'link'));
  await expect(writeManifest(folder)).rejects.toMatchObject({ code: 'INVALID_FILE' });
});
