/** `.keras` files: zip archives of `config.json`, `metadata.json` and `model.weights.h5`. */
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { crc32 } from 'node:zlib';
import { FinetableError, isFinetableError } from '@finetable/core';
import { openPromise, type Entry, type ZipFile } from 'yauzl';
import { ioError, openFile } from '../io.ts';

export interface KerasArchive {
  readonly config: string;
  /** A copy of `model.weights.h5`, since HDF5 wants a file of its own. */
  readonly weights: string;
  /** Removes the copy. */
  readonly remove: () => Promise<void>;
}

/** Larger than any configuration, small enough to hold. */
const largestConfigBytes = 64 * 2 ** 20;
const weightsName = 'model.weights.h5';

/** Takes the disk space of the weights in the folder for temporary files. @throws INVALID_FILE, NOT_FOUND, IO */
export async function unpackKeras(path: string): Promise<KerasArchive> {
  await (await openFile(path)).close(); // what is no regular file, or not there, in our words
  const refuse = (found: string, cause?: unknown): FinetableError =>
    new FinetableError('INVALID_FILE', `${path}: ${found}`, { file: path }, { cause });
  const folder = await mkdtemp(join(tmpdir(), 'finetable-keras-')).catch((error: unknown) => {
    throw ioError(error, 'writing', tmpdir());
  });
  let zip: ZipFile | undefined;
  try {
    zip = await openPromise(path, { autoClose: false });
    const entries = new Map<string, Entry>();
    for await (const entry of zip.eachEntry()) {
      if (entries.has(entry.fileName)) throw refuse(`has two entries named ${entry.fileName}`);
      entries.set(entry.fileName, entry);
    }
    const [config, weights] = ['config.json', weightsName].map((name) => {
      const entry = entries.get(name);
      if (entry) return entry;
      const there = entries.has('model.weights.json') ? '; weights in several files are not read' : '';
      throw refuse(`has no ${name}, which a .keras file has${there}`);
    }) as [Entry, Entry];
    if (config.uncompressedSize > largestConfigBytes)
      throw refuse(`config.json has ${config.uncompressedSize} bytes; allowed: ${largestConfigBytes}`);
    const parts: Buffer[] = [];
    await pipeline(await zip.openReadStreamPromise(config), checksum(config), async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) parts.push(chunk);
    });
    const target = join(folder, weightsName);
    const output = createWriteStream(target);
    output.on('error', (error) => output.destroy(ioError(error, 'writing', target)));
    await pipeline(await zip.openReadStreamPromise(weights), checksum(weights), output);
    return {
      config: Buffer.concat(parts).toString('utf8'),
      weights: target,
      remove: () => rm(folder, { recursive: true, force: true }),
    };
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    if (isFinetableError(error)) throw error;
    if (error instanceof Error && 'syscall' in error) throw ioError(error, 'writing', folder);
    throw refuse(`not a .keras file: ${error instanceof Error ? error.message : String(error)}`, error);
  } finally {
    zip?.close();
  }
}

function checksum({ crc32: wanted, fileName }: Entry): Transform {
  let sum = 0;
  return new Transform({
    transform(chunk: Buffer, _, done) {
      sum = crc32(chunk, sum);
      done(null, chunk);
    },
    flush: (done) => done(sum === wanted ? null : new Error(`${fileName} does not have its checksum`)),
  });
}
