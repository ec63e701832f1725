/**
 * Our adapter format: only the rows that the adapter changes. PEFT's `adapter_config.json` with a member
 *
 *     "finetable": { "format": 1, "kinds": { "<table>": "lora" | "dense" } }
 *
 * (and `rslora_pattern` where tables differ in it), and `adapter_model.safetensors` with, per table in `target_modules`:
 *
 *     <table>.rows  I32 [k], ascending
 *     <table>.A     F32 [k, r]; of a dense delta [k, D]
 *     <table>.B     F32 [r, D]; absent for a dense delta
 *
 * Its metadata `<table>.base` is the JSON `{ "rows": V, "dim": D, "dtype": "f32", "fingerprint": "…" or null }` of the base, so that
 * an adapter is never laid on the wrong table unnoticed. The same adapter gives the same bytes.
 */
import { join } from 'node:path';
import { FinetableError } from '@finetable/core';
import { show } from '../io.ts';
import { parseJson, readJsonObject, type JsonObject } from '../json.ts';
import { readSafetensorsHeader, type SafetensorsHeader } from '../safetensors/header.ts';
import { readTensor } from '../safetensors/model.ts';
import type { TensorSource } from '../safetensors/write.ts';
import {
  adapterConfig,
  configName,
  parseAdapterConfig,
  rsLoraPattern,
  tensorsName,
  type AdapterConfig,
} from './config.ts';
import { findAdapterFolder, writeAdapterFolder, type SaveOptions } from './folder.ts';
import { checkAdapters, type AdapterBase, type AdapterTensors } from './tensors.ts';

/**
 * Writes the adapters of one or more tables as a folder, complete or not at all.
 * @throws INVALID_ARGUMENT, NON_FINITE (the adapters), EXISTS (the folder, without `replace`), IO
 */
export async function saveSparseAdapter(
  folder: string,
  adapters: readonly AdapterTensors[],
  options: SaveOptions = {},
): Promise<void> {
  checkAdapters(adapters, 'INVALID_ARGUMENT', folder);
  const pattern = rsLoraPattern(adapters);
  const finetable = {
    format: 1,
    kinds: new Map(adapters.map(({ table, kind }) => [table, kind])),
    ...(pattern && { rslora_pattern: pattern }),
  };
  const config = adapterConfig(adapters, adapters.map(({ table }) => table), { finetable }); // prettier-ignore
  const metadata = Object.fromEntries(
    adapters.map(({ table, base: { rows, dim, dtype, fingerprint } }) => [
      `${table}.base`,
      JSON.stringify({ rows, dim, dtype, fingerprint }),
    ]),
  );
  const tensors = adapters.flatMap(({ table, base, rank, rows, a, b }): TensorSource[] => [
    { name: `${table}.rows`, dtype: 'I32', shape: [rows.length], data: rows },
    { name: `${table}.A`, dtype: 'F32', shape: [rows.length, rank], data: a },
    ...(b ? [{ name: `${table}.B`, dtype: 'F32', shape: [rank, base.dim], data: b } as const] : []),
  ]);
  await writeAdapterFolder(folder, config, tensors, metadata, options);
}

/**
 * Reads what {@link saveSparseAdapter} wrote, in the order of `target_modules`.
 * @throws INVALID_FILE, UNSUPPORTED, NON_FINITE, NOT_FOUND, IO
 */
export async function loadSparseAdapter(folder: string): Promise<AdapterTensors[]> {
  const found = await findAdapterFolder(folder);
  const configFile = join(found, configName);
  const config = parseAdapterConfig(await readJsonObject(configFile), configFile);
  const { kinds, targetModules } = config;
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${configFile}: ${message}`, { file: configFile });
  };
  if (!kinds) return refuse('finetable is missing, so this is not a sparse adapter; read it as a PEFT adapter');
  if (!targetModules) return refuse('target_modules is not a list; a sparse adapter lists its tables there');
  if (targetModules.length !== kinds.size || targetModules.some((table) => !kinds.has(table))) {
    refuse(
      `target_modules (${targetModules.join(', ')}) and finetable.kinds (${[...kinds.keys()].join(', ')}) name different tables`,
    );
  }
  const file = join(found, tensorsName);
  const header = await readSafetensorsHeader(file);
  const expected = new Set<string>();
  for (const [table, kind] of kinds) {
    for (const name of kind === 'lora' ? ['rows', 'A', 'B'] : ['rows', 'A']) expected.add(`${table}.${name}`);
  }
  for (const tensor of header.tensors.keys()) {
    if (!expected.has(tensor)) {
      const message = `${file}: unknown tensor ${show(tensor)}; allowed: ${[...expected].join(', ')}`;
      throw new FinetableError('INVALID_FILE', message, { file, tensor });
    }
  }
  const adapters: AdapterTensors[] = [];
  for (const table of targetModules) adapters.push(await readTable(file, header, table, kinds.get(table)!, config));
  checkAdapters(adapters, 'INVALID_FILE', file);
  return adapters;
}

async function readTable(
  file: string,
  header: SafetensorsHeader,
  table: string,
  kind: 'lora' | 'dense',
  config: AdapterConfig,
): Promise<AdapterTensors> {
  const base = parseBase(file, header, table);
  const rank = config.rankOf(table);
  const k = header.tensors.get(`${table}.rows`)?.shape[0] ?? 0;
  const read = async (name: string, dtype: 'I32' | 'F32', shape: readonly number[]) => {
    const tensor = `${table}.${name}`;
    const info = header.tensors.get(tensor);
    const wanted = `${dtype} [${shape.join(', ')}]`;
    if (info?.dtype !== dtype || info.shape.join() !== shape.join()) {
      const what = info ? `is ${info.dtype} [${info.shape.join(', ')}]` : 'is missing';
      throw new FinetableError('INVALID_FILE', `${file}: tensor ${show(tensor)} ${what}; needed: ${wanted}`, {
        file,
        tensor,
      });
    }
    return (await readTensor(file, header, tensor)).data;
  };
  return {
    table,
    base,
    kind,
    rank,
    alpha: config.alphaOf(table),
    rsLora: config.rsLoraOf(table),
    rows: (await read('rows', 'I32', [k])) as Int32Array,
    a: (await read('A', 'F32', [k, rank])) as Float32Array,
    b: kind === 'dense' ? null : ((await read('B', 'F32', [rank, base.dim])) as Float32Array),
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
