/** Reading regular files, and turning the operating system's refusals into errors that name file, cause and remedy. */
import { open, stat } from 'node:fs/promises';
import { FinetableError } from '@finetable/core';

const remedies: Readonly<Record<string, string>> = {
  ENOSPC: 'no space is left on the disk; free some or choose another folder',
  EDQUOT: 'the disk quota is used up; free some space or choose another folder',
  EFBIG: 'the file grew past what the file system or this process may write; choose another disk or raise `ulimit -f`',
  EACCES: 'permission denied; check who owns the file and its folder',
  EPERM: 'not permitted; check who owns the file and its folder',
  EROFS: 'the file system is read-only; choose another folder',
  ENOENT: 'no such file or folder; check the path, create the folder first',
  ENOTDIR: 'a part of the path is a file, not a folder',
  EISDIR: 'it is a folder, not a file',
  ENAMETOOLONG: 'the name is too long for the file system',
  EMFILE: 'too many files are open; raise `ulimit -n`',
  ENFILE: 'too many files are open on this machine',
  EIO: 'the device reported an error; check the disk',
};

/**
 * An error of the operating system as a `FinetableError`: NOT_FOUND when something to be read is not there, else IO.
 * Errors that are ours already come back as they are.
 */
export function ioError(error: unknown, doing: 'reading' | 'writing', path: string): FinetableError {
  if (error instanceof FinetableError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
  const reason = remedies[code] ?? (error instanceof Error ? error.message : String(error));
  return new FinetableError(
    code === 'ENOENT' && doing === 'reading' ? 'NOT_FOUND' : 'IO',
    `${path}: ${doing} failed (${code}): ${reason}`,
    { file: path, errno: code },
    { cause: error },
  );
}

/** An open regular file of known length. */
export interface InputFile {
  readonly path: string;
  readonly bytes: number;
  /** Fills the whole of `target` from `position` on; INVALID_FILE where the file ends before that. */
  readonly read: (target: Uint8Array, position: number) => Promise<void>;
}

/** Node takes at most 2^31 - 1 bytes in one read or write. */
export const largestTransferBytes = 2 ** 30;

/** A file that the caller closes. */
export interface OpenFile extends InputFile {
  /** Ends reading; what is read afterwards throws. */
  readonly close: () => Promise<void>;
}

/** Opens a file to be read and closed by the caller. Refuses what is not a regular file: opening a named pipe would wait forever. */
export async function openFile(path: string): Promise<OpenFile> {
  const { handle, bytes } = await openRegular(path);
  const read = async (target: Uint8Array, position: number): Promise<void> => {
    for (let done = 0; done < target.byteLength;) {
      const length = Math.min(target.byteLength - done, largestTransferBytes);
      const { bytesRead } = await handle.read(target, done, length, position + done).catch((error: unknown) => {
        throw ioError(error, 'reading', path);
      });
      if (bytesRead === 0) {
        throw new FinetableError(
          'INVALID_FILE',
          `${path}: ends at byte ${position + done}, needed up to byte ${position + target.byteLength}; it was cut short`,
          { file: path },
        );
      }
      done += bytesRead;
    }
  };
  return { path, bytes, read, close: () => handle.close() };
}

async function openRegular(path: string) {
  try {
    const kind = await stat(path);
    if (!kind.isFile()) {
      const found = kind.isDirectory() ? 'a folder' : 'not a regular file';
      throw new FinetableError('INVALID_FILE', `${path}: is ${found}; a regular file is needed`, { file: path });
    }
    return { handle: await open(path, 'r'), bytes: kind.size };
  } catch (error) {
    throw ioError(error, 'reading', path);
  }
}

/** Opens `path`, hands it to `use`, closes it. */
export async function withFile<T>(path: string, use: (file: InputFile) => Promise<T>): Promise<T> {
  const file = await openFile(path);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

/**
 * Bytes `[byteOffset, byteOffset + byteLength)` of a file in chunks of `chunkBytes`, the last one of what is left. A chunk is
 * overwritten by the next one, and lies at the start of its buffer, so that typed arrays can be made of it.
 * @throws NOT_FOUND, IO, INVALID_FILE (too short)
 */
export async function* readChunks(
  path: string,
  { byteOffset, byteLength }: { readonly byteOffset: number; readonly byteLength: number },
  chunkBytes = 2 ** 20,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  const file = await openFile(path);
  try {
    const buffer = new Uint8Array(Math.min(chunkBytes, byteLength));
    for (let done = 0; done < byteLength; done += buffer.length) {
      const chunk = buffer.subarray(0, byteLength - done);
      await file.read(chunk, byteOffset + done);
      yield chunk;
    }
  } finally {
    await file.close();
  }
}

/** A small file as UTF-8 text. Refuses more than `limit` bytes before reading them, and bytes that are not UTF-8. */
export async function readSmallText(path: string, limit: number): Promise<string> {
  return withFile(path, async (file) => {
    if (file.bytes > limit) {
      throw new FinetableError('INVALID_FILE', `${path}: has ${file.bytes} bytes; allowed: at most ${limit}`, {
        file: path,
      });
    }
    const bytes = new Uint8Array(file.bytes);
    await file.read(bytes, 0);
    const text = decodeUtf8(bytes);
    if (text === null) throw new FinetableError('INVALID_FILE', `${path}: is not UTF-8 text`, { file: path });
    return text;
  });
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The text, a byte order mark kept; null when the bytes are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | null {
  try {
    return utf8.decode(bytes);
  } catch {
    return null;
  }
}

/** A value as it stands in a message: quoted, and never longer than a line. */
export function show(value: unknown): string {
  const text = value instanceof Map ? 'an object' : Array.isArray(value) ? 'an array' : JSON.stringify(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
