/**
 * PEFT's adapter folders for embeddings, in both directions. PEFT stores A dense and transposed, `lora_embedding_A` [r, V], B as
 * `lora_embedding_B` [D, r], and DoRA's magnitudes as `lora_magnitude_vector` [D]. A is streamed both ways, so that no array here has V values: zeros are made while writing,
 * and only rows that are not all zero are kept while reading.
 *
 * Keys and rules: PEFT 0.21, `src/peft/utils/save_and_load.py` and `src/peft/tuners/lora/layer.py`. Where we differ: PEFT leaves a
 * missing B random with a warning; here a missing or extra factor is refused.
 */
import { constants } from 'node:buffer';
import { join } from 'node:path';
import { FinetableError, formatBytes, HeUniformRows } from '@finetable/core';
import { allocate, bytesOf, checkFloat, readValuesF32, type ArrayInfo } from '../array.ts';
import { show, withFile } from '../io.ts';
import { readJsonObject } from '../json.ts';
import { readSafetensorsHeader, type SafetensorsHeader } from '../safetensors/header.ts';
import { readTensorF32 } from '../safetensors/model.ts';
import type { TensorSource } from '../safetensors/write.ts';
import {
  adapterConfig,
  configName,
  isPlainModule,
  matchesModule,
  parseAdapterConfig,
  tensorsName,
  type AdapterConfig,
  type ModuleFactors,
} from './config.ts';
import { exists, findAdapterFolder, writeAdapterFolder, type SaveOptions } from './folder.ts';
import { checkAdapters, loraScale, restGroup, type AdapterTensors, type GroupTensors } from './tensors.ts';

/** How a PEFT folder is written. */
export interface SavePeftOptions extends SaveOptions {
  /** Table -> path of the `Embedding` module in the Python model, such as `0.embedding`; absent: the table's name. */
  readonly modulePaths?: Readonly<Record<string, string>> | undefined;
}

const keyPrefix = 'base_model.model.';

/** f32 values streamed at a time. */
const blockValues = 2 ** 20;

/**
 * Writes a folder that `PeftModel.from_pretrained` loads and that gives the same rows. It holds r x V values, zeros included.
 *
 * Row groups become one adapter, whose rank is the sum of theirs: a row of A has its group's columns and 0 elsewhere, B is theirs
 * stacked, each times its group's scale. Lost are what training needs (which rows a group may hold, its rank and alpha), the base's
 * fingerprint and sums of squares, and that A was random numbers by row: they are written out.
 * @throws UNSUPPORTED (a dense delta, grown rows; DoRA on some of the tables), INVALID_ARGUMENT, NON_FINITE, EXISTS, IO
 */
export async function savePeftAdapter(
  folder: string,
  adapters: readonly AdapterTensors[],
  options: SavePeftOptions = {},
): Promise<void> {
  checkAdapters(adapters, 'INVALID_ARGUMENT', folder);
  const dora = adapters[0]!.magnitude !== null;
  for (const { table, groups, grown, magnitude, maxNorm } of adapters) {
    const refuse = (message: string): never => {
      throw new FinetableError('UNSUPPORTED', `${folder}: table ${show(table)}: ${message}`, { table });
    };
    if (groups.some(({ kind }) => kind === 'dense'))
      refuse('PEFT has no format for a dense delta; save it as a sparse adapter, or merge it into the table');
    if (maxNorm !== null) refuse('PEFT has no maxNorm that applies to adapted vectors; train without it');
    if (grown)
      refuse(
        'PEFT has no format for rows that the base lacks; merge the adapter into the table, or save it as a sparse one',
      );
    if ((magnitude !== null) !== dora)
      refuse('PEFT has one use_dora for all tables, and these differ; save them one by one');
  }
  const modules = adapters.map(({ table }) => {
    const paths = options.modulePaths ?? {};
    const module = Object.hasOwn(paths, table) ? paths[table]! : table;
    if (isPlainModule(module)) return module;
    const message = `${folder}: module path ${show(module)} of table ${show(table)}; allowed: letters, digits, "_", "-" and "."; set modulePaths`;
    throw new FinetableError('INVALID_ARGUMENT', message, { table });
  });
  const rsLora = adapters.every(({ groups }) => groups.length === 1 && groups[0]!.rsLora);
  const factors = adapters.map(({ groups }) => combined(groups, rsLora));
  const tensors = adapters.flatMap((adapter, i): TensorSource[] => {
    const { groups, base, magnitude, table } = adapter;
    const { rank } = factors[i]!;
    const b = groups.length === 1 ? groups[0]!.b! : stackB(groups, folder, table);
    const key = `${keyPrefix}${modules[i]}.lora_`;
    return [
      { name: `${key}embedding_A`, dtype: 'F32', shape: [rank, base.rows], data: denseA(groups, base.rows) },
      { name: `${key}embedding_B`, dtype: 'F32', shape: [base.dim, rank], data: transpose(b, rank, base.dim) },
      ...(magnitude
        ? [{ name: `${key}magnitude_vector`, dtype: 'F32', shape: [base.dim], data: magnitude } as const]
        : []),
    ];
  });
  const config = adapterConfig(modules, factors, { rsLora, dora });
  await writeAdapterFolder(folder, config, tensors, { format: 'pt' }, options);
}

/** Rank and alpha that give PEFT the scale of the one group, or 1 for several, whose B then has their scales in it. */
function combined(groups: readonly GroupTensors[], rsLora: boolean): ModuleFactors {
  const rank = groups.reduce((sum, group) => sum + group.rank, 0);
  if (groups.length > 1) return { rank, alpha: rank };
  const group = groups[0]!;
  return { rank, alpha: group.rsLora && !rsLora ? group.alpha * Math.sqrt(rank) : group.alpha };
}

/** `[sum of ranks, D]`: each group's B times its scale. */
function stackB(groups: readonly GroupTensors[], folder: string, table: string): Float32Array {
  const stacked = new Float32Array(groups.reduce((sum, { b }) => sum + b!.length, 0));
  let at = 0;
  for (const group of groups) {
    const { name, b } = group;
    const scale = loraScale(group);
    for (const value of b!) {
      stacked[at] = value * scale;
      if (!Number.isFinite(stacked[at++])) {
        const message = `${folder}: table ${show(table)}, group ${show(name)}: B times its scale, ${scale}, goes beyond f32`;
        throw new FinetableError('NON_FINITE', message, { table, group: name });
      }
    }
  }
  return stacked;
}

/** The bytes of [r, V], group after group, row after row; a block is used again once the writer asks for the next. */
async function* denseA(groups: readonly GroupTensors[], tableRows: number): AsyncGenerator<Uint8Array> {
  const block = new Float32Array(Math.min(tableRows, blockValues));
  for (const group of groups) {
    const { rank, rows, a } = group;
    const untouched = untouchedRows(group, tableRows);
    for (let column = 0; column < rank; column++) {
      for (let begin = 0, next = 0; begin < tableRows; begin += block.length) {
        const count = Math.min(block.length, tableRows - begin);
        const values = block.subarray(0, count).fill(0);
        untouched?.(column, begin, values);
        for (; next < rows.length && rows[next]! < begin + count; next++)
          values[rows[next]! - begin] = a[next * rank + column]!;
        yield bytesOf(values);
      }
    }
  }
}

/** Puts one column of the start of a group's members from `begin` on into `values`; null where that is 0. */
function untouchedRows(
  { untouched, members, rank }: GroupTensors,
  tableRows: number,
): ((column: number, begin: number, values: Float32Array) => void) | null {
  if (!untouched) return null;
  const start = new HeUniformRows(untouched.seed, untouched.stream, untouched.rows ?? tableRows, rank);
  const bounds = members ?? Int32Array.of(0, tableRows);
  return (column, begin, values) => {
    const end = begin + values.length;
    for (let i = 0; i < bounds.length && bounds[i]! < end; i += 2) {
      const first = Math.max(begin, bounds[i]!);
      const last = Math.min(end, bounds[i + 1]!);
      if (first < last) start.column(column, first, values.subarray(first - begin, last - begin));
    }
  };
}

function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j]!;
  return result;
}

/**
 * Reads the embedding adapters of a PEFT folder, or of its one sub-folder, sorted by module path, which becomes the table's name.
 * F16 and BF16 factors become f32. A copy of the base (`base_layer.weight`, which PEFT adds for a module named `embed_tokens`) is
 * checked against the factors and not read. Each adapter is one group, of all rows.
 * @throws UNSUPPORTED (layers that are not embeddings, options that are not honoured), INVALID_FILE, NON_FINITE, NOT_FOUND, IO
 */
export async function loadPeftAdapter(folder: string): Promise<AdapterTensors[]> {
  const found = await findAdapterFolder(folder);
  const configFile = join(found, configName);
  const config = parseAdapterConfig(await readJsonObject(configFile), configFile);
  const file = join(found, tensorsName);
  if (!(await exists(file)) && (await exists(join(found, 'adapter_model.bin')))) {
    const message = `${found}: has adapter_model.bin, a Python pickle, which is not read; save it again with safe_serialization=True`;
    throw new FinetableError('UNSUPPORTED', message, { file: found });
  }
  const header = await readSafetensorsHeader(file);
  const modules = groupFactors(file, header);
  checkTargets(configFile, config, [...modules.keys()]);
  const adapters: AdapterTensors[] = [];
  for (const [module, factors] of [...modules].sort(([x], [y]) => (x < y ? -1 : 1))) {
    if (config.dora !== (factors.magnitude !== undefined)) {
      const found = config.dora ? 'true, and there is no' : 'false, and there is a';
      const message = `${configFile}: use_dora is ${found} lora_magnitude_vector of module ${show(module)} in ${tensorsName}; needed: one with use_dora, none without`;
      throw new FinetableError('INVALID_FILE', message, { file: configFile, path: 'use_dora', module });
    }
    adapters.push(await readModule(file, header, module, factors, config));
  }
  checkAdapters(adapters, 'INVALID_FILE', file);
  return adapters;
}

type Factors = Partial<Record<'A' | 'B' | 'magnitude' | 'base', string>>;

/** The tensor names of each module. */
function groupFactors(file: string, header: SafetensorsHeader): Map<string, Factors> {
  const modules = new Map<string, Factors>();
  const refuse = (tensor: string, message: string): never => {
    throw new FinetableError('UNSUPPORTED', `${file}: tensor ${show(tensor)}: ${message}`, { file, tensor });
  };
  for (const name of header.tensors.keys()) {
    // PEFT itself writes magnitudes without `.weight`, and reads both.
    const match =
      /^base_model\.model\.(.+)\.(?:lora_embedding_(A|B)|lora_(magnitude)_vector(?:\.weight)?|(base)_layer\.weight)$/s.exec(
        name,
      );
    if (!match) {
      if (/\.lora_[AB]\b/.test(name))
        refuse(name, 'LoRA of a layer that is not an embedding; only lora_embedding_A and _B are read');
      refuse(
        name,
        `is not known; allowed: ${keyPrefix}<module>.lora_embedding_A, .lora_embedding_B, .lora_magnitude_vector, .base_layer.weight`,
      );
    }
    const module = match![1]!;
    const factors = modules.get(module) ?? {};
    const factor = (match![2] ?? match![3] ?? match![4]) as keyof Factors;
    if (factors[factor] !== undefined) refuse(name, `is ${show(factors[factor])} again; allowed: one of them`);
    factors[factor] = name;
    modules.set(module, factors);
  }
  for (const [module, { A, B }] of modules) {
    if (A !== undefined && B !== undefined) continue;
    const missing = A === undefined ? 'lora_embedding_A' : 'lora_embedding_B';
    const message = `${file}: module ${show(module)} has no ${missing}; both factors are needed`;
    throw new FinetableError('INVALID_FILE', message, { file, module });
  }
  if (modules.size === 0)
    throw new FinetableError('INVALID_FILE', `${file}: has no tensors; is the adapter empty?`, { file });
  return modules;
}

function checkTargets(
  configFile: string,
  { targetModules, finetable }: AdapterConfig,
  modules: readonly string[],
): void {
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${configFile}: ${message}`, { file: configFile });
  };
  if (finetable) refuse('finetable is set, so this is a sparse adapter; read it as one');
  if (!targetModules) return;
  const unused = targetModules.find((target) => !modules.some((module) => matchesModule(target, module)));
  if (unused !== undefined)
    refuse(`target_modules names ${show(unused)}, for which there are no factors; found: ${modules.join(', ')}`);
  const extra = modules.find((module) => !targetModules.some((target) => matchesModule(target, module)));
  if (extra !== undefined)
    refuse(`there are factors for ${show(extra)}, which target_modules (${targetModules.join(', ')}) does not name`);
}

async function readModule(
  file: string,
  header: SafetensorsHeader,
  module: string,
  factors: Factors,
  config: AdapterConfig,
): Promise<AdapterTensors> {
  const { rank, alpha } = config.factorsOf(module);
  const info = (name: string): ArrayInfo => header.tensors.get(name)!;
  const refuse = (name: string, needed: string): never => {
    const message = `${file}: tensor ${show(name)} is ${info(name).dtype} [${info(name).shape.join(', ')}]; needed: ${needed}`;
    throw new FinetableError('INVALID_FILE', message, { file, tensor: name });
  };
  const aName = factors.A!;
  const bName = factors.B!;
  const magnitude = factors.magnitude;
  for (const name of [aName, bName, ...(magnitude === undefined ? [] : [magnitude])])
    if (!['F32', 'F16', 'BF16'].includes(info(name).dtype)) refuse(name, 'F32, F16 or BF16');
  const [aRank, rows] = info(aName).shape;
  const [dim, bRank] = info(bName).shape;
  if (info(aName).shape.length !== 2 || aRank !== rank)
    refuse(aName, `[r, V] with r = ${rank}, as the configuration says`);
  if (info(bName).shape.length !== 2 || bRank !== rank)
    refuse(bName, `[D, r] with r = ${rank}, as the configuration says`);
  if (factors.base !== undefined && info(factors.base).shape.join() !== `${rows},${dim}`)
    refuse(factors.base, `[V, D] = [${rows}, ${dim}], as the factors have it`);
  if (magnitude !== undefined && info(magnitude).shape.join() !== String(dim))
    refuse(magnitude, `[D] = [${dim}], as the factors have it`);
  const b = transpose(await readTensorF32(file, header, bName), dim!, rank);
  const rest: GroupTensors = {
    name: restGroup,
    members: null,
    untouched: null,
    kind: 'lora',
    rank,
    alpha,
    rsLora: config.rsLora,
    ...(await readNonZeroRows(file, info(aName), aName)),
    b,
  };
  return {
    table: module,
    base: { rows: rows!, dim: dim!, dtype: 'unknown', fingerprint: null },
    groups: [rest],
    magnitude: magnitude === undefined ? null : await readTensorF32(file, header, magnitude),
    baseSquares: null,
    maxNorm: null,
    grown: null,
  };
}

/** The rows of A that are not all zero, from [r, V]: strips of columns are read from each of the r rows, so one pass suffices. */
async function readNonZeroRows(
  path: string,
  info: ArrayInfo,
  name: string,
): Promise<{ rows: Int32Array; a: Float32Array }> {
  const what = `tensor ${show(name)}`;
  checkFloat(path, info.dtype, what);
  const [rank, columns] = info.shape as [number, number];
  const width = Math.min(columns, Math.max(1, Math.floor(blockValues / rank)));
  const strip = allocate(path, what, rank * width * 4, (length) => new Float32Array(length / 4));
  const used = new Uint8Array(width);
  const parts: { rows: Int32Array; a: Float32Array }[] = [];
  let kept = 0;
  await withFile(path, async (file) => {
    for (let begin = 0; begin < columns; begin += width) {
      const count = Math.min(width, columns - begin);
      used.fill(0);
      for (let i = 0; i < rank; i++) {
        const values = strip.subarray(i * width, i * width + count);
        await readValuesF32(file, info, i * columns + begin, values);
        for (let j = 0; j < count; j++) if (values[j] !== 0) used[j] = 1;
      }
      let found = 0;
      for (let j = 0; j < count; j++) found += used[j]!;
      const part = { rows: new Int32Array(found), a: new Float32Array(found * rank) };
      for (let j = 0, row = 0; j < count; j++) {
        if (used[j] === 0) continue;
        part.rows[row] = begin + j;
        for (let i = 0; i < rank; i++) part.a[row * rank + i] = strip[i * width + j]!;
        row++;
      }
      kept += found;
      if (kept * rank * 4 > constants.MAX_LENGTH) {
        const message = `${path}: ${what}: its rows that are not zero take more than ${formatBytes(constants.MAX_LENGTH)}, the most that is held`;
        throw new FinetableError('UNSUPPORTED', message, { file: path, tensor: name });
      }
      parts.push(part);
    }
  });
  const rows = new Int32Array(kept);
  const a = allocate(path, what, kept * rank * 4, (length) => new Float32Array(length / 4));
  let at = 0;
  for (const part of parts) {
    rows.set(part.rows, at);
    a.set(part.a, at * rank);
    at += part.rows.length;
  }
  return { rows, a };
}
