/**
 * HDF5 files by way of h5wasm, the HDF5 library compiled to WebAssembly, which is loaded when the first is opened. Rows are read where they lie in the file, so a
 * file may be larger than memory. Links out of the file are not followed, and nothing is taken from a file that it cannot hold.
 */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { FinetableError } from '@finetable/core';
import type { Metadata, Module } from 'h5wasm/node';
import { openFile } from '../io.ts';

export interface Hdf5Dataset {
  readonly path: string;
  readonly shape: readonly number[];
  /** Kind and bytes of an element, `f4`, `i1`, `u4`, `V2` (opaque); null for what has no such form. */
  readonly dtype: string | null;
}

export interface Hdf5File {
  /** In order of their paths. */
  readonly datasets: ReadonlyMap<string, Hdf5Dataset>;
  /** A text attribute, joined where it is a list; undefined where there is none. */
  readonly attribute: (path: string, name: string) => string | undefined;
  /** Rows [begin, end) of the first dimension, as they are stored; a new array. */
  readonly read: (dataset: Hdf5Dataset, begin: number, end: number) => Uint8Array<ArrayBuffer>;
  readonly close: () => void;
}

const signature = [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a];
/** Rows of more bytes are no embeddings. */
const widestRowBytes = 2 ** 26;

/**
 * @param shown what errors call the file
 * @throws INVALID_FILE, NOT_FOUND, IO
 */
export async function openHdf5(path: string, shown = path): Promise<Hdf5File> {
  await checkSignature(path, shown);
  const { default: h5wasm } = await import('h5wasm/node');
  const library = await h5wasm.ready;
  library.activate_throwing_error_handler(); // else the library prints
  const attempt = <T>(what: string, work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw new FinetableError(
        'INVALID_FILE',
        `${shown}: ${what}: ${reasonOf(error)}`,
        { file: shown },
        { cause: error },
      );
    }
  };
  // Resolved here: the library has its own working directory, taken when it was loaded.
  const file = attempt('not to be opened as HDF5', () => new h5wasm.File(resolve(path), 'r'));
  try {
    const { size } = await stat(path);
    const datasets = attempt('its table of contents is broken', () =>
      listDatasets(library, file.file_id, file.paths(), { size, shown }),
    );
    return {
      datasets,
      attribute: (of, name) =>
        attempt(`attribute ${name} of ${of}`, () => {
          if (!library.get_attribute_names(file.file_id, of).includes(name)) return undefined;
          const value: unknown = new h5wasm.Group(file.file_id, of).get_attribute(name, false);
          return typeof value === 'string' ? value : Array.isArray(value) ? value.join('') : undefined;
        }),
      read: ({ path: of, shape }, begin, end) =>
        attempt(of, () => readRows(library, file.file_id, of, shape, begin, end)),
      close: () => void file.close(),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** A plain read first: it tells a folder, a pipe, a missing file and one of another format in our words. */
async function checkSignature(path: string, shown: string): Promise<void> {
  const input = await openFile(path);
  try {
    const start = new Uint8Array(Math.min(input.bytes, signature.length));
    await input.read(start, 0);
    if (signature.some((byte, i) => start[i] !== byte)) {
      throw new FinetableError('INVALID_FILE', `${shown}: not an HDF5 file: it does not begin with its signature`, {
        file: shown,
      });
    }
  } finally {
    await input.close();
  }
}

function listDatasets(
  library: typeof Module,
  file: bigint,
  paths: readonly string[],
  { size, shown }: { readonly size: number; readonly shown: string },
): Map<string, Hdf5Dataset> {
  const datasets = new Map<string, Hdf5Dataset>();
  for (const path of paths) {
    if (library.get_type(file, path) !== library.H5O_TYPE_DATASET) continue;
    const metadata = library.get_dataset_metadata(file, path);
    const { shape, chunks, total_size: bytes, size: elementBytes, virtual_sources: others } = metadata;
    if (!shape) continue;
    const refuse = (found: string): never => {
      throw new FinetableError('INVALID_FILE', `${shown}: ${path}: ${found}`, { file: shown });
    };
    if (others?.length) refuse('its data are in other files, which are not read');
    // Without chunks the data are in one piece, uncompressed; a shape that goes past the file is not made into zeros.
    if (!chunks && bytes * 1 > size) refuse(`[${shape.join(', ')}] takes ${bytes} bytes; the file has ${size}`);
    if (elementBytes * shape.slice(1).reduce((product, n) => product * n, 1) > widestRowBytes) continue;
    datasets.set(path, { path, shape, dtype: dtypeOf(metadata) });
  }
  return datasets;
}

function dtypeOf({ type, size, signed, littleEndian, vlen }: Metadata): string | null {
  if (vlen || (!littleEndian && size > 1 && type !== 5)) return null;
  if (type === 0) return `${signed ? 'i' : 'u'}${size}`;
  return type === 1 ? `f${size}` : type === 5 ? `V${size}` : null;
}

/** As `Dataset.slice` of h5wasm, which does not know every type of element. */
function readRows(
  library: typeof Module,
  file: bigint,
  path: string,
  shape: readonly number[],
  begin: number,
  end: number,
): Uint8Array<ArrayBuffer> {
  const rest = shape.slice(1);
  const { size } = library.get_dataset_metadata(file, path);
  const bytes = rest.reduce((product, n) => product * n, (end - begin) * size);
  const pointer = library._malloc(bytes);
  if (pointer === 0) throw new Error(`no memory for ${bytes} bytes`);
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
  if (error instanceof FinetableError) throw error;
  const text = error instanceof Error ? error.message : String(error);
  return /.*\): (.*)\n(?![^]*\): )/.exec(text)?.[1] ?? text.split('\n', 1)[0]!;
}
