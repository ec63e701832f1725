import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { readChunks } from './io.ts';

test('chunks of a file, the last one short', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'io-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const path = join(folder, 'bytes');
  await writeFile(
    path,
    Uint8Array.from({ length: 20 }, (_, i) => i),
  );
  const found: number[][] = [];
  for await (const chunk of readChunks(path, { byteOffset: 3, byteLength: 8 }, 3)) {
    expect(chunk.byteOffset).toBe(0);
    found.push([...chunk]);
  }
  expect(found).toEqual([
    [3, 4, 5],
    [6, 7, 8],
    [9, 10],
  ]);
  const beyond = readChunks(path, { byteOffset: 15, byteLength: 8 }, 3);
  expect((await beyond.next()).value).toEqual(Uint8Array.of(15, 16, 17));
  await expect(beyond.next()).rejects.toMatchObject({ code: 'INVALID_FILE' }); // byte 20 is not there
});
