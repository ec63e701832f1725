/**
 * HDF5 files by way of h5wasm, the HDF5 library compiled to WebAssembly, which is loaded when the first is opened. Rows are read where they lie, so a file may
 * be larger than memory, and be a part of another file. The library sees no file but this one: what a hostile file says lies in others is not to be had.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { FinetableError } from '@finetable/core';
import type { Metadata, Module } from 'h5wasm';
import { ioError, openFile } from '../io.ts';

/** Where the HDF5 file lies. */
export interface FilePart {
  readonly path: string;
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface Hdf5Dataset {
  readonly path: string;
  readonly shape: readonly number[];
  /** Kind and bytes of an element, `f4`, `i1`, `u4`, `V2` (opaque); null for what has no such form. */
  readonly dtype: string | null;
}

export interface Hdf5File {
  /** In order of their paths. */
  readonly datasets: ReadonlyMap<string, Hdf5Dataset>;
  /** A text; undefined where there is none. */
  readonly attribute: (path: string, name: string) => string | undefined;
  /** Rows [begin, end) of the first dimension, as they are stored; a new array. */
  readonly read: (dataset: Hdf5Dataset, begin: number, end: number) => Uint8Array<ArrayBuffer>;
  readonly close: () => void;
}

type Library = typeof Module;

/** Rows of more bytes are no embeddings. */
const widestRowBytes = 2 ** 26;

/** A file that is HDF5 from its first byte to its last. @throws INVALID_FILE, NOT_FOUND, IO */
export async function hdf5Part(path: string): Promise<FilePart> {
  const input = await openFile(path); // tells what is missing, a folder or a pipe in our words
  await input.close();
  return { path, byteOffset: 0, byteLength: input.bytes };
}

/** @throws INVALID_FILE, IO */
export async function openHdf5(part: FilePart): Promise<Hdf5File> {
  const { path } = part;
  const attempt = <T>(what: string, work: () => T): T => {
    try {
      return work();
    } catch (error) {
      if (error instanceof FinetableError) throw error;
      const reason = reasonOf(error);
      throw new FinetableError('INVALID_FILE', `${path}: ${what}: ${reason}`, { file: path }, { cause: error });
    }
  };
  const { default: h5wasm } = await import('h5wasm');
  const library = await h5wasm.ready;
  library.activate_throwing_error_handler(); // else the library prints
  const { name, remove } = mount(library, part);
  try {
    const file = attempt('not to be opened as HDF5', () => new h5wasm.File(name, 'r'));
    return {
      datasets: attempt('its table of contents is broken', () =>
        listDatasets(library, file.file_id, file.paths(), part),
      ),
      attribute: (of, name) =>
        attempt(`attribute ${name} of ${of}`, () => {
          if (!library.get_attribute_names(file.file_id, of).includes(name)) return undefined;
          const value: unknown = new h5wasm.Group(file.file_id, of).get_attribute(name, false);
          return typeof value === 'string' ? value : undefined;
        }),
      read: (dataset, begin, end) => attempt(dataset.path, () => readRows(library, file.file_id, dataset, begin, end)),
      close: () => {
        file.close();
        remove();
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}

let mounted = 0;

/** Puts the bytes into the library's own file system, which has nothing else in it. */
function mount({ FS }: Library, { path, byteOffset, byteLength }: FilePart): { name: string; remove: () => void } {
  const descriptor = attemptIo(path, () => openSync(path, 'r'));
  const name = `/${mounted++}`;
  const node = (FS as unknown as FileSystem).create(name, 0o400);
  Object.defineProperty(node, 'usedBytes', { get: () => byteLength, set: () => undefined });
  node.stream_ops = {
    ...node.stream_ops,
    read: (_, target, offset, length, position) => {
      const left = Math.max(0, Math.min(length, byteLength - position));
      return attemptIo(path, () => readSync(descriptor, target, offset, left, byteOffset + position));
    },
  };
  return {
    name,
    remove: () => {
      (FS as unknown as FileSystem).unlink(name);
      closeSync(descriptor);
    },
  };
}

/** What is used of Emscripten's file system. */
interface FileSystem {
  create(
    path: string,
    mode: number,
  ): {
    stream_ops: {
      read(stream: unknown, target: Uint8Array, offset: number, length: number, position: number): number;
    };
  };
  unlink(path: string): void;
}

function attemptIo<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw ioError(error, 'reading', path);
  }
}

function listDatasets(
  library: Library,
  file: bigint,
  paths: readonly string[],
  { path: shown, byteLength }: FilePart,
): Map<string, Hdf5Dataset> {
  const datasets = new Map<string, Hdf5Dataset>();
  for (const path of paths) {
    if (library.get_type(file, path) !== library.H5G_DATASET) continue; // links to other files too
    const metadata = library.get_dataset_metadata(file, path);
    const { shape, chunks, total_size: values, size, virtual_sources: others } = metadata;
    if (!shape) continue;
    const refuse = (found: string): never => {
      throw new FinetableError('INVALID_FILE', `${shown}: ${path}: ${found}`, { file: shown });
    };
    if (others?.length) refuse('its data are in other files, which are not read');
    // Without chunks the data are in one piece, uncompressed; a shape that goes past the file is not made into zeros.
    if (!chunks && values * size > byteLength)
      refuse(`[${shape.join(', ')}] takes ${values * size} bytes; the file has ${byteLength}`);
    if (size * shape.slice(1).reduce((product, n) => product * n, 1) > widestRowBytes) continue;
    datasets.set(path, { path, shape, dtype: dtypeOf(metadata) });
  }
  return datasets;
}

function dtypeOf({ type, size, signed, littleEndian, vlen }: Metadata): string | null {
  if (type === 5) return `V${size}`;
  if (vlen || (!littleEndian && size > 1)) return null;
  if (type === 0) return `${signed ? 'i' : 'u'}${size}`;
  return type === 1 ? `f${size}` : null;
}

/** As `Dataset.slice` of h5wasm, which does not know every type of element. */
function readRows(
  library: Library,
  file: bigint,
  { path, shape }: Hdf5Dataset,
  begin: number,
  end: number,
): Uint8Array<ArrayBuffer> {
  const rest = shape.slice(1);
  const { size } = library.get_dataset_metadata(file, path);
  const bytes = rest.reduce((product, n) => product * n, (end - begin) * size);
  const pointer = library._malloc(bytes);
  if (pointer === 0) throw new FinetableError('OUT_OF_MEMORY', `no memory for ${bytes} bytes of ${path}`);
  try {
    library.get_dataset_data(
      file,
      path,
      [end - begin, ...rest].map(BigInt),
      [begin, ...rest.map(() => 0)].map(BigInt),
      shape.map(() => 1n),
      BigInt(pointer),
    );
    return library.HEAPU8.slice(pointer, pointer + bytes) as Uint8Array<ArrayBuffer>;
  } finally {
    library._free(pointer);
  }
}

/** The last line of the library's trace is what went wrong. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const last = text.split('\n').findLast((line) => /^ *#\d+: /.test(line));
  return last?.replace(/^.*\): /, '') ?? text.split('\n', 1)[0]!;
}
