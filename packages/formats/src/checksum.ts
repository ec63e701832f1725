/** SHA-256 of files, and manifests: a list of a folder's files with their checksums, so that damage is found before it is used. */
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FinetableError } from '@finetable/core';
import { writeFileAtomic } from './atomic.ts';
import { ioError, show, withFile } from './io.ts';
import { formatJson, readJsonObject, type JsonValue } from './json.ts';

/** The file with the checksums of a folder's files. */
export const manifestName = 'manifest.json';

const blockBytes = 2 ** 20;

/** The SHA-256 of a file's bytes, 64 hexadecimal digits. */
export async function sha256File(path: string): Promise<string> {
  return withFile(path, async (file) => {
    const hash = createHash('sha256');
    const block = new Uint8Array(Math.min(file.bytes, blockBytes));
    for (let position = 0; position < file.bytes; position += block.length) {
      const part = block.subarray(0, Math.min(block.length, file.bytes - position));
      await file.read(part, position);
      hash.update(part);
    }
    return hash.digest('hex');
  });
}

/** One file of a manifest; `name` is its path below the folder, with `/`. */
export interface ManifestEntry {
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * Writes `manifest.json` into `folder`: every file below it, sorted by name, with length and checksum.
 * @throws INVALID_FILE for anything that is neither a file nor a folder, IO
 */
export async function writeManifest(folder: string): Promise<void> {
  const files: ManifestEntry[] = [];
  for (const name of await listFiles(folder, '')) {
    const path = join(folder, name);
    files.push({
      name,
      bytes: await withFile(path, ({ bytes }) => Promise.resolve(bytes)),
      sha256: await sha256File(path),
    });
  }
  await writeFileAtomic(join(folder, manifestName), formatJson({ format: 1, files }));
}

async function listFiles(folder: string, prefix: string): Promise<string[]> {
  const entries = await readdir(join(folder, prefix), { withFileTypes: true }).catch((error: unknown) => {
    throw ioError(error, 'reading', join(folder, prefix));
  });
  const names: string[] = [];
  for (const entry of entries) {
    const name = prefix + entry.name;
    if (entry.isDirectory()) names.push(...(await listFiles(folder, `${name}/`)));
    else if (!entry.isFile()) {
      throw new FinetableError(
        'INVALID_FILE',
        `${join(folder, name)}: is neither a file nor a folder and has no checksum`,
        { file: name },
      );
    } else if (name !== manifestName) names.push(name);
  }
  return names.sort();
}

/**
 * Checks every file that the manifest lists; lengths first, then checksums. Files that it does not list are left alone.
 * @returns the manifest's entries
 * @throws INVALID_FILE naming the file, what was expected and what was found; NOT_FOUND where there is no manifest; IO
 */
export async function verifyManifest(folder: string): Promise<ManifestEntry[]> {
  const entries = await readManifest(join(folder, manifestName));
  const refuse = (name: string, expected: string, found: string): never => {
    const message = `${join(folder, name)}: expected ${expected} (${manifestName}), found ${found}; the folder is damaged, use another copy`;
    throw new FinetableError('INVALID_FILE', message, { file: join(folder, name), expected, found });
  };
  for (const { name, bytes } of entries) {
    const found = await withFile(join(folder, name), (file) => Promise.resolve(file.bytes)).catch((error: unknown) => {
      if (error instanceof FinetableError && error.code === 'NOT_FOUND') return null;
      throw error;
    });
    if (found !== bytes) refuse(name, `${bytes} bytes`, found === null ? 'no file' : `${found} bytes`);
  }
  for (const { name, sha256 } of entries) {
    const found = await sha256File(join(folder, name));
    if (found !== sha256) refuse(name, `SHA-256 ${sha256}`, found);
  }
  return entries;
}

async function readManifest(path: string): Promise<ManifestEntry[]> {
  const json = await readJsonObject(path);
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${path}: ${message}`, { file: path });
  };
  const format = json.get('format');
  if (format !== 1) refuse(`format is ${show(format ?? null)}; allowed: 1`);
  const files = json.get('files');
  if (!Array.isArray(files)) return refuse(`files is ${show(files ?? null)}; allowed: a list`);
  return files.map((entry, i) => {
    const field = (key: string): JsonValue | undefined =>
      entry instanceof Map ? (entry.get(key) as JsonValue) : undefined;
    const [name, bytes, sha256] = [field('name'), field('bytes'), field('sha256')];
    if (typeof name !== 'string' || !isPlainPath(name))
      return refuse(`files[${i}].name is ${show(name ?? null)}; allowed: a path below the folder`);
    if (typeof bytes !== 'number' || bytes < 0)
      return refuse(`files[${i}].bytes is ${show(bytes ?? null)}; allowed: an integer from 0`);
    if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) {
      return refuse(`files[${i}].sha256 is ${show(sha256 ?? null)}; allowed: 64 hexadecimal digits`);
    }
    return { name, bytes, sha256 };
  });
}

/** A path that stays below the folder it is joined to. */
function isPlainPath(name: string): boolean {
  return !/[\\:\0]/.test(name) && name.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}
