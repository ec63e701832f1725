import { mkdir, mkdtemp, open, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import {
  recoverFolder,
  removeFolderAtomic,
  removeLeftovers,
  withSpool,
  writeFileAtomic,
  writeFolderAtomic,
} from './atomic.ts';

// A RegExp inside toMatchObject matches every string.
const matching = (pattern: RegExp) => expect.stringMatching(pattern) as string;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'finetable-'));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true, force: true });
});

const errno = (code: string): Error => Object.assign(new Error(`${code}: injected`), { code });

async function spyOnHandles() {
  const handle = await open(folder, 'r');
  await handle.close();
  return Object.getPrototypeOf(handle) as typeof handle;
}

test('writes text, bytes, a stream, and what a function writes', async () => {
  const path = join(folder, 'x');
  await writeFileAtomic(path, 'grün');
  expect(await readFile(path, 'utf8')).toBe('grün');
  await writeFileAtomic(path, new Uint8Array([1, 2]));
  expect([...(await readFile(path))]).toEqual([1, 2]);
  async function* stream() {
    yield new Uint8Array([3]);
    yield new Uint8Array([]);
    yield new Uint8Array([4, 5]);
  }
  await writeFileAtomic(path, stream());
  expect([...(await readFile(path))]).toEqual([3, 4, 5]);
  await writeFileAtomic(path, async (write) => {
    void write(new Uint8Array([0, 0, 6])); // not awaited: still in order
    await write(new Uint8Array([7]));
    await write(new Uint8Array([9, 9]), 0);
    await write(new Uint8Array([8]));
  });
  expect([...(await readFile(path))]).toEqual([9, 9, 6, 7, 8]);
  expect(await readdir(folder)).toEqual(['x']);
});

test.each([
  [
    'a function that throws midway',
    async (write: (chunk: Uint8Array) => Promise<void>) => {
      await write(new Uint8Array(1000));
      throw new Error('midway');
    },
  ],
  [
    'a stream that fails midway',
    (async function* () {
      yield new Uint8Array(1000);
      throw new Error('midway');
    })(),
  ],
])('%s: its own error comes out, the old file stays, nothing is left over', async (_, content) => {
  const path = join(folder, 'x');
  await writeFile(path, 'old');
  await expect(writeFileAtomic(path, content)).rejects.toThrow(/^midway$/);
  expect(await readFile(path, 'utf8')).toBe('old');
  expect(await readdir(folder)).toEqual(['x']);
});

test.each(['write', 'sync'] as const)('a full disk during %s is an IO error with file and remedy', async (method) => {
  const path = join(folder, 'x');
  await writeFile(path, 'old');
  vi.spyOn(await spyOnHandles(), method).mockRejectedValue(errno('ENOSPC'));
  const failure = writeFileAtomic(path, 'new');
  await expect(failure).rejects.toMatchObject({
    code: 'IO',
    message: `${path}: writing failed (ENOSPC): no space is left on the disk; free some or choose another folder`,
    details: { file: path, errno: 'ENOSPC' },
    cause: { code: 'ENOSPC' },
  });
  expect(await readFile(path, 'utf8')).toBe('old');
  expect(await readdir(folder)).toEqual(['x']);
});

test('a folder that is removed is gone by its name, and nothing is left over', async () => {
  const path = join(folder, 'x');
  await mkdir(join(path, 'inner'), { recursive: true });
  await writeFile(join(path, 'inner', 'file'), 'bytes');
  await removeFolderAtomic(path);
  expect(await readdir(folder)).toEqual([]);
  await expect(removeFolderAtomic(path)).rejects.toMatchObject({ code: 'IO', details: { file: path } });
});

test('a write error that the function swallows still fails the file', async () => {
  vi.spyOn(await spyOnHandles(), 'write').mockRejectedValueOnce(errno('EIO'));
  const swallow = writeFileAtomic(join(folder, 'x'), async (write) => {
    await write(new Uint8Array(3)).catch(() => undefined);
  });
  await expect(swallow).rejects.toMatchObject({ code: 'IO', details: { errno: 'EIO' } });
  expect(await readdir(folder)).toEqual([]);
});

test('short writes of the operating system are continued', async () => {
  const prototype = await spyOnHandles();
  const write = prototype.write;
  vi.spyOn(prototype, 'write').mockImplementation(function (
    this: typeof prototype,
    chunk: Uint8Array,
    offset: number,
    length: number,
    at: number,
  ) {
    return Reflect.apply(write, this, [chunk, offset, Math.min(length, 3), at]);
  } as never);
  await writeFileAtomic(join(folder, 'x'), 'ten bytes!');
  expect(await readFile(join(folder, 'x'), 'utf8')).toBe('ten bytes!');
});

test('says what is wrong with the path', async () => {
  await writeFile(join(folder, 'file'), '');
  await expect(writeFileAtomic(join(folder, 'file', 'x'), '')).rejects.toMatchObject({
    code: 'IO',
    message: matching(/ENOTDIR.*a part of the path is a file/),
  });
  await expect(writeFileAtomic(join(folder, 'none', 'x'), '')).rejects.toMatchObject({
    code: 'IO',
    message: matching(/ENOENT.*create the folder first/),
  });
  await expect(writeFileAtomic(folder, '')).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: matching(/is a folder/),
  });
  await expect(writeFileAtomic('/dev/null', '')).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: matching(/not a regular file/),
  });
});

test('a symbolic link is replaced, its target stays', async () => {
  await writeFile(join(folder, 'target'), 'old');
  await symlink('target', join(folder, 'link'));
  await writeFileAtomic(join(folder, 'link'), 'new');
  expect(await readFile(join(folder, 'target'), 'utf8')).toBe('old');
  expect(await readFile(join(folder, 'link'), 'utf8')).toBe('new');
});

const fill = (text: string) => async (temporary: string) => {
  await mkdir(join(temporary, 'sub'));
  await writeFile(join(temporary, 'sub', 'a'), text);
};
const content = (path: string): Promise<string> => readFile(join(path, 'sub', 'a'), 'utf8');

test('makes a folder and its parents; replaces one only when asked to', async () => {
  const path = join(folder, 'p', 'q');
  await writeFolderAtomic(path, fill('one'));
  await expect(writeFolderAtomic(path, fill('two'))).rejects.toMatchObject({ code: 'EXISTS' });
  expect(await content(path)).toBe('one');
  await writeFolderAtomic(path, fill('two'), { overwrite: true });
  expect(await content(path)).toBe('two');
  await writeFolderAtomic(`${path}/`, fill('three'), { overwrite: true });
  expect(await content(path)).toBe('three');
  expect(await readdir(join(folder, 'p'))).toEqual(['q']);
  await writeFile(join(folder, 'file'), '');
  await expect(writeFolderAtomic(join(folder, 'file'), fill('x'), { overwrite: true })).rejects.toMatchObject({
    code: 'EXISTS',
  });
});

test('a build that throws leaves the old folder and nothing else', async () => {
  const path = join(folder, 'q');
  await writeFolderAtomic(path, fill('one'));
  const failing = writeFolderAtomic(
    path,
    async (temporary) => {
      await fill('two')(temporary);
      throw new Error('midway');
    },
    { overwrite: true },
  );
  await expect(failing).rejects.toThrow(/^midway$/);
  expect(await content(path)).toBe('one');
  expect(await readdir(folder)).toEqual(['q']);
});

test('a folder that vanishes before its rename: the old one is put back', async () => {
  const path = join(folder, 'q');
  await writeFolderAtomic(path, fill('one'));
  // The build's folder is gone only once it was flushed, so that the second rename is what fails.
  const prototype = await spyOnHandles();
  const sync = prototype.sync;
  let temporary = '';
  let syncs = 0;
  vi.spyOn(prototype, 'sync').mockImplementation(async function (this: typeof prototype) {
    await sync.call(this);
    if (++syncs === 3) await rm(temporary, { recursive: true });
  });
  const failing = writeFolderAtomic(
    path,
    async (name) => {
      temporary = name;
      await fill('two')(name);
    },
    { overwrite: true },
  );
  await expect(failing).rejects.toMatchObject({ code: 'IO', details: { errno: 'ENOENT' } });
  expect(await content(path)).toBe('one');
  expect(await readdir(folder)).toEqual(['q']);
});

test('a kill between the two renames: the old folder is put back', async () => {
  const path = join(folder, 'q');
  await writeFolderAtomic(path, fill('one'));
  await rename(path, join(folder, '.finetable-old-q'));
  expect(await recoverFolder(path)).toBe(true);
  expect(await content(path)).toBe('one');
  expect(await readdir(folder)).toEqual(['q']);
});

test('a kill after the second rename: the new folder stays, the old one goes', async () => {
  const path = join(folder, 'q');
  await writeFolderAtomic(path, fill('two'));
  await fill('one')(await mkdir(join(folder, '.finetable-old-q'), { recursive: true }).then(String));
  expect(await recoverFolder(path)).toBe(true);
  expect(await content(path)).toBe('two');
  expect(await readdir(folder)).toEqual(['q']);
  expect(await recoverFolder(join(folder, 'none'))).toBe(false);
});

test('removeLeftovers removes our temporary names and nothing else', async () => {
  const tmp = '.finetable-tmp-0123456789abcdef';
  await mkdir(join(folder, tmp, 'deep'), { recursive: true });
  await writeFile(join(folder, '.finetable-tmp-aaaaaaaaaaaaaaaa'), '');
  await writeFile(join(folder, '.finetable-tmp-mine'), '');
  await writeFile(join(folder, 'kept'), '');
  await mkdir(join(folder, '.finetable-old-q'));
  expect(await removeLeftovers(folder)).toEqual(['.finetable-old-q', tmp, '.finetable-tmp-aaaaaaaaaaaaaaaa']);
  expect((await readdir(folder)).sort()).toEqual(['.finetable-tmp-mine', 'kept', 'q']);
  await expect(removeLeftovers(join(folder, 'none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('a spool gives back what it took, leaves nothing, and says when the disk refuses', async () => {
  const path = join(folder, 'x');
  const big = Uint8Array.from({ length: 2 ** 20 + 3 }, (_, i) => i % 251);
  const read: Buffer[] = [];
  await withSpool(path, async (spool) => {
    expect(await readdir(folder)).toEqual([]);
    await spool.write(Uint8Array.of(9));
    await spool.write(big);
    for await (const chunk of spool.read()) read.push(Buffer.from(chunk));
  });
  expect(Buffer.concat(read).equals(Buffer.concat([Uint8Array.of(9), big]))).toBe(true);
  await expect(withSpool(path, () => Promise.reject(new Error('mine')))).rejects.toThrow('mine');
  expect(await readdir(folder)).toEqual([]);
  await expect(withSpool(join(folder, 'none', 'x'), () => Promise.resolve(0))).rejects.toMatchObject({ code: 'IO' });
});
