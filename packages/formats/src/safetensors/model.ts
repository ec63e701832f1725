/** Tensors of a safetensors file, or of a model that is cut into several files with an index. */
import { basename, dirname, join } from 'node:path';
import { FinetableError } from '@finetable/core';
import { readArray, readArrayF32, type ArrayInfo, type TensorArray } from '../array.ts';
import { show } from '../io.ts';
import { readJsonObject } from '../json.ts';
import { readSafetensorsHeader, type SafetensorsHeader } from './header.ts';

/** A tensor and the file that holds it. */
export interface TensorInfo extends ArrayInfo {
  readonly file: string;
  /** Of that file. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** One view of one or many files. */
export interface SafetensorsModel {
  /** What was opened. */
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Of the file; of an index, empty. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Of all the files together. */
  readonly fileBytes: number;
}

type Tensors = Pick<SafetensorsHeader, 'tensors'>;

/** How many names an error lists before it only counts. */
const namesShown = 10;

function find(path: string, { tensors }: Tensors, name: string): ArrayInfo {
  const info = tensors.get(name);
  if (info) return info;
  const names = [...tensors.keys()].slice(0, namesShown).map((other) => show(other));
  const more = tensors.size > namesShown ? ` and ${tensors.size - namesShown} more` : '';
  const message = `${path}: has no tensor ${show(name)}; it has ${names.join(', ') || 'none'}${more}`;
  throw new FinetableError('NOT_FOUND', message, { file: path, tensor: name });
}

/**
 * One whole tensor of a file whose header was read.
 * @throws NOT_FOUND (no such tensor), UNSUPPORTED above 4 GiB, OUT_OF_MEMORY, IO
 */
export async function readTensor(path: string, header: Tensors, name: string): Promise<TensorArray> {
  return readArray(path, find(path, header, name), `tensor ${show(name)}`);
}

/** One whole tensor as f32: F32 as it is, F16, BF16 and F8 exactly, F64 rounded. Integers are refused. */
export async function readTensorF32(path: string, header: Tensors, name: string): Promise<Float32Array> {
  return readArrayF32(path, find(path, header, name), `tensor ${show(name)}`);
}

/** More than any model has; each costs an open file and a header. */
const mostShards = 10_000;

/**
 * Opens a `.safetensors` file, or the `.safetensors.index.json` of a sharded model: every header is read and checked, and
 * every tensor must be in exactly the file that the index names.
 * @throws INVALID_FILE, NOT_FOUND, IO
 */
export async function openSafetensors(path: string): Promise<SafetensorsModel> {
  if (!path.endsWith('.json')) {
    const header = await readSafetensorsHeader(path);
    return { path, tensors: located(path, header), metadata: header.metadata, fileBytes: header.fileBytes };
  }
  const shards = await readIndex(path);
  const tensors = new Map<string, TensorInfo>();
  let fileBytes = 0;
  for (const [shard, names] of shards) {
    const file = join(dirname(path), shard);
    const header = await readSafetensorsHeader(file);
    fileBytes += header.fileBytes;
    for (const [name, info] of located(file, header)) {
      if (!names.delete(name)) {
        const message = `${file}: holds the tensor ${show(name)}, which ${basename(path)} does not map to this file`;
        throw new FinetableError('INVALID_FILE', message, { file, tensor: name });
      }
      tensors.set(name, info);
    }
    for (const name of names) {
      const message = `${file}: lacks the tensor ${show(name)}, which ${basename(path)} maps to this file`;
      throw new FinetableError('INVALID_FILE', message, { file, tensor: name });
    }
  }
  return { path, tensors, metadata: Object.create(null) as Record<string, string>, fileBytes };
}

function located(file: string, header: SafetensorsHeader): Map<string, TensorInfo> {
  return new Map([...header.tensors].map(([name, info]) => [name, { ...info, file, metadata: header.metadata }]));
}

/** The names of the tensors that the index maps to each file. */
async function readIndex(path: string): Promise<Map<string, Set<string>>> {
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${path}: ${message}`, { file: path });
  };
  const weightMap = (await readJsonObject(path)).get('weight_map');
  if (!(weightMap instanceof Map))
    return refuse(`weight_map is ${show(weightMap ?? null)}; allowed: an object of tensor: file`);
  const shards = new Map<string, Set<string>>();
  for (const [tensor, file] of weightMap) {
    if (typeof file !== 'string' || !/^[^/\\:\0]+\.safetensors$/.test(file) || file.startsWith('.')) {
      return refuse(
        `weight_map ${show(tensor)} is ${show(file)}; allowed: the plain name of a .safetensors file beside the index`,
      );
    }
    const names = shards.get(file);
    if (names) names.add(tensor);
    else shards.set(file, new Set([tensor]));
  }
  if (shards.size > mostShards) refuse(`maps to ${shards.size} files; allowed: at most ${mostShards}`);
  return shards;
}
