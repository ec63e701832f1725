/** `.keras` files: zip archives of `config.json`, `metadata.json` and `model.weights.h5`, which lies in them uncompressed. */
import { crc32 } from 'node:zlib';
import { FinetableError, isFinetableError } from '@finetable/core';
import type { Entry, ZipFile } from 'yauzl';
import { openFile } from '../io.ts';
import type { FilePart } from './hdf5.ts';

export interface KerasArchive {
  readonly config: string;
  readonly weights: FilePart;
}

/** Larger than any configuration, small enough to hold. */
const largestConfigBytes = 64 * 2 ** 20;
const stored = 0;

/** @throws INVALID_FILE, UNSUPPORTED (weights that another program has compressed), NOT_FOUND, IO */
export async function openArchive(path: string): Promise<KerasArchive> {
  await (await openFile(path)).close(); // tells what is missing, a folder or a pipe in our words
  let zip: ZipFile | undefined;
  try {
    // Not at the top: every loader thread reads this package.
    const { openPromise } = await import('yauzl');
    zip = await openPromise(path, { autoClose: false });
    const entries = new Map<string, Entry>();
    for await (const entry of zip.eachEntry()) {
      if (entries.has(entry.fileName)) throw new Error(`it has two entries named ${entry.fileName}`);
      entries.set(entry.fileName, entry);
    }
    const config = await readConfig(zip, entryOf(entries, 'config.json'));
    const weights = entryOf(entries, 'model.weights.h5');
    if (weights.compressionMethod !== stored || weights.isEncrypted()) {
      throw new FinetableError(
        'UNSUPPORTED',
        `${path}: model.weights.h5 is compressed, which Keras does not do; unpack the archive, and pack it again without compression (zip -0)`,
        { file: path },
      );
    }
    const { fileDataStart } = await zip.readLocalFileHeaderPromise(weights, { minimal: true });
    return { config, weights: { path, byteOffset: fileDataStart, byteLength: weights.uncompressedSize } };
  } catch (error) {
    if (isFinetableError(error)) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new FinetableError('INVALID_FILE', `${path}: not a .keras file: ${reason}`, { file: path }, { cause: error });
  } finally {
    zip?.close();
  }
}

function entryOf(entries: ReadonlyMap<string, Entry>, name: string): Entry {
  const entry = entries.get(name);
  if (entry) return entry;
  const several = entries.has('model.weights.json') ? ' (weights in several files are not read)' : '';
  throw new Error(`it has no ${name}${several}`);
}

async function readConfig(zip: ZipFile, entry: Entry): Promise<string> {
  const { fileName, uncompressedSize, crc32: sum } = entry;
  if (uncompressedSize > largestConfigBytes)
    throw new Error(`${fileName} has ${uncompressedSize} bytes; allowed: ${largestConfigBytes}`);
  const parts: Buffer[] = [];
  for await (const chunk of await zip.openReadStreamPromise(entry)) parts.push(chunk as Buffer);
  const bytes = Buffer.concat(parts);
  if (crc32(bytes) !== sum) throw new Error(`${fileName} does not have its checksum`);
  return bytes.toString('utf8');
}
