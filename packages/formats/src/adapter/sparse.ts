/**
 * Our adapter format: only the rows that the adapter changes, as `docs/guide/12-formats.md` has it byte by byte. PEFT's
 * `adapter_config.json`, whose fields describe each table's rest group, with a member `finetable`; and `adapter_model.safetensors`
 * with, per table in `target_modules`:
 *
 *     <table>.rows         I32 [k], ascending
 *     <table>.A            F32 [k, r]; of a dense delta [k, D]
 *     <table>.B            F32 [r, D]; absent for a dense delta
 *     <table>.members      I32 [m, 2], where the group may not hold every row
 *     <table>.magnitude    F32 [D], with DoRA
 *     <table>.baseSquares  F64 [D], where known
 *     <table>.maxNorm      F64 [1], where there is one
 *     <table>.grown        F32 [k, D], rows that the base does not have
 *
 * The first four again as `<table>/<group>.…` for every further group. Its metadata `<table>.base` describes the base, so that an
 * adapter is never laid on the wrong table unnoticed. The same adapter gives the same bytes.
 */
import { join } from 'node:path';
import { FinetableError } from '@finetable/core';
import type { TensorData } from '../array.ts';
import { show } from '../io.ts';
import { parseJson, readJsonObject, type JsonObject } from '../json.ts';
import { readSafetensorsHeader, type SafetensorsHeader } from '../safetensors/header.ts';
import { readTensor } from '../safetensors/model.ts';
import type { TensorSource } from '../safetensors/write.ts';
import { adapterConfig, configName, parseAdapterConfig, tensorsName } from './config.ts';
import { findAdapterFolder, writeAdapterFolder, type SaveOptions } from './folder.ts';
import { groupKey, parseSparseConfig, sparseConfig, type GroupConfig } from './sparse-config.ts';
import { checkAdapters, type AdapterBase, type AdapterTensors, type GroupTensors } from './tensors.ts';

/**
 * Writes the adapters of one or more tables as a folder, complete or not at all.
 * @throws INVALID_ARGUMENT, NON_FINITE (the adapters), EXISTS (the folder, without `overwrite`), IO
 */
export async function saveSparseAdapter(
  folder: string,
  adapters: readonly AdapterTensors[],
  options: SaveOptions = {},
): Promise<void> {
  checkAdapters(adapters, 'INVALID_ARGUMENT', folder);
  const config = adapterConfig(
    adapters.map(({ table }) => table),
    adapters.map(({ groups }) => groups[0]!),
    {
      rsLora: adapters.every(({ groups }) => groups[0]!.rsLora),
      dora: adapters.some(({ magnitude }) => magnitude !== null),
    },
    { finetable: sparseConfig(adapters) },
  );
  const metadata = Object.fromEntries(
    adapters.map(({ table, base: { rows, dim, dtype, fingerprint } }) => [
      `${table}.base`,
      JSON.stringify({ rows, dim, dtype, fingerprint }),
    ]),
  );
  await writeAdapterFolder(folder, config, adapters.flatMap(tableTensors), metadata, options);
}

function tableTensors(adapter: AdapterTensors): TensorSource[] {
  const { table, groups, magnitude, baseSquares, maxNorm, grown } = adapter;
  const { dim } = adapter.base;
  return [
    ...groups.flatMap(({ name, members, rank, rows, a, b }): TensorSource[] => {
      const key = groupKey(table, name);
      return [
        { name: `${key}.rows`, dtype: 'I32', shape: [rows.length], data: rows },
        { name: `${key}.A`, dtype: 'F32', shape: [rows.length, rank], data: a },
        ...optional(`${key}.B`, 'F32', [rank, dim], b),
        ...optional(`${key}.members`, 'I32', [(members?.length ?? 0) / 2, 2], members),
      ];
    }),
    ...optional(`${table}.magnitude`, 'F32', [dim], magnitude),
    ...optional(`${table}.baseSquares`, 'F64', [dim], baseSquares),
    ...optional(`${table}.maxNorm`, 'F64', [1], maxNorm === null ? null : Float64Array.of(maxNorm)),
    ...optional(`${table}.grown`, 'F32', [(grown?.length ?? 0) / dim, dim], grown),
  ];
}

function optional(
  name: string,
  dtype: TensorSource['dtype'],
  shape: readonly number[],
  data: Int32Array | Float32Array | Float64Array | null,
): TensorSource[] {
  return data ? [{ name, dtype, shape, data }] : [];
}

/**
 * Reads what {@link saveSparseAdapter} wrote, in the order of `target_modules`.
 * @throws INVALID_FILE, UNSUPPORTED, NON_FINITE, NOT_FOUND, IO
 */
export async function loadSparseAdapter(folder: string): Promise<AdapterTensors[]> {
  const found = await findAdapterFolder(folder);
  const configFile = join(found, configName);
  const config = parseAdapterConfig(await readJsonObject(configFile), configFile);
  const tables = parseSparseConfig(config, configFile);
  const file = join(found, tensorsName);
  const reader = new Reader(file, await readSafetensorsHeader(file));
  const adapters: AdapterTensors[] = [];
  for (const [table, groups] of tables) adapters.push(await readTable(reader, table, groups));
  reader.checkAllRead();
  if (config.dora !== adapters.some(({ magnitude }) => magnitude !== null)) {
    const message = config.dora
      ? `use_dora is true, and ${file} has no magnitudes; allowed: false, or a tensor "<table>.magnitude"`
      : `use_dora is false, and ${file} has magnitudes; allowed: true`;
    throw new FinetableError('INVALID_FILE', `${configFile}: ${message}`, { file: configFile, path: 'use_dora' });
  }
  checkAdapters(adapters, 'INVALID_FILE', file);
  return adapters;
}

/** Tensors that must be of one dtype and shape; those that nobody asks for are refused in the end. */
class Reader {
  readonly file: string;
  readonly header: SafetensorsHeader;
  readonly #asked = new Set<string>();

  constructor(file: string, header: SafetensorsHeader) {
    this.file = file;
    this.header = header;
  }

  /** Length of a tensor's first dimension; 0 where there is none. */
  count(tensor: string): number {
    return this.header.tensors.get(tensor)?.shape[0] ?? 0;
  }

  async read(tensor: string, dtype: TensorSource['dtype'], shape: readonly number[]): Promise<TensorData> {
    this.#asked.add(tensor);
    const info = this.header.tensors.get(tensor);
    if (info?.dtype !== dtype || info.shape.join() !== shape.join()) {
      const what = info ? `is ${info.dtype} [${info.shape.join(', ')}]` : 'is missing';
      throw new FinetableError(
        'INVALID_FILE',
        `${this.file}: tensor ${show(tensor)} ${what}; needed: ${dtype} [${shape.join(', ')}]`,
        { file: this.file, tensor },
      );
    }
    return (await readTensor(this.file, this.header, tensor)).data;
  }

  async readOptional(
    tensor: string,
    dtype: TensorSource['dtype'],
    shape: readonly number[],
  ): Promise<TensorData | null> {
    this.#asked.add(tensor);
    return this.header.tensors.has(tensor) ? this.read(tensor, dtype, shape) : null;
  }

  checkAllRead(): void {
    for (const tensor of this.header.tensors.keys()) {
      if (this.#asked.has(tensor)) continue;
      const message = `${this.file}: unknown tensor ${show(tensor)}; allowed: ${[...this.#asked].join(', ')}`;
      throw new FinetableError('INVALID_FILE', message, { file: this.file, tensor });
    }
  }
}

async function readTable(reader: Reader, table: string, configs: readonly GroupConfig[]): Promise<AdapterTensors> {
  const base = parseBase(reader.file, reader.header, table);
  const { dim } = base;
  const groups: GroupTensors[] = [];
  for (const config of configs) {
    const { kind, rank } = config;
    const key = groupKey(table, config.name);
    const k = reader.count(`${key}.rows`);
    groups.push({
      ...config,
      members: (await reader.readOptional(`${key}.members`, 'I32', [
        reader.count(`${key}.members`),
        2,
      ])) as Int32Array | null,
      rows: (await reader.read(`${key}.rows`, 'I32', [k])) as Int32Array,
      a: (await reader.read(`${key}.A`, 'F32', [k, rank])) as Float32Array,
      b: kind === 'dense' ? null : ((await reader.read(`${key}.B`, 'F32', [rank, dim])) as Float32Array),
    });
  }
  const grownKey = `${table}.grown`;
  return {
    table,
    base,
    groups,
    magnitude: (await reader.readOptional(`${table}.magnitude`, 'F32', [dim])) as Float32Array | null,
    baseSquares: (await reader.readOptional(`${table}.baseSquares`, 'F64', [dim])) as Float64Array | null,
    maxNorm: ((await reader.readOptional(`${table}.maxNorm`, 'F64', [1])) as Float64Array | null)?.[0] ?? null,
    grown: (await reader.readOptional(grownKey, 'F32', [reader.count(grownKey), dim])) as Float32Array | null,
  };
}

function parseBase(file: string, header: SafetensorsHeader, table: string): AdapterBase {
  const key = `${table}.base`;
  const text = header.metadata[key];
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${file}: metadata ${show(key)}: ${message}`, { file, table });
  };
  if (text === undefined) return refuse('is missing; it describes the base table');
  const json = parseJson(text, `${file}: metadata ${show(key)}`);
  if (!(json instanceof Map)) return refuse(`is ${show(json)}; allowed: an object`);
  const [rows, dim, dtype, fingerprint] = ['rows', 'dim', 'dtype', 'fingerprint'].map((field) =>
    (json as JsonObject).get(field),
  );
  if (typeof rows !== 'number') return refuse(`rows is ${show(rows ?? null)}; allowed: an integer`);
  if (typeof dim !== 'number') return refuse(`dim is ${show(dim ?? null)}; allowed: an integer`);
  if (typeof dtype !== 'string') return refuse(`dtype is ${show(dtype ?? null)}; allowed: text`);
  if (typeof fingerprint !== 'string' && fingerprint !== null)
    return refuse(`fingerprint is ${show(fingerprint ?? '')}; allowed: text or null`);
  return { rows, dim, dtype, fingerprint };
}
