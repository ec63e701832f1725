/** Any adapter folder that we read. */
import { join } from 'node:path';
import { readJsonObject } from '../json.ts';
import { configName } from './config.ts';
import { findAdapterFolder } from './folder.ts';
import { loadPeftAdapter } from './peft.ts';
import { loadSparseAdapter } from './sparse.ts';
import type { AdapterTensors } from './tensors.ts';

/** Reads a sparse adapter (`adapter_config.json` has `finetable`) or a PEFT one. Throws what {@link loadSparseAdapter} and {@link loadPeftAdapter} do. */
export async function loadAdapter(folder: string): Promise<AdapterTensors[]> {
  return (await adapterFormat(folder)) === 'sparse' ? loadSparseAdapter(folder) : loadPeftAdapter(folder);
}

/** Which of the two formats a folder holds, by its config. @throws NOT_FOUND, INVALID_FILE, IO */
export async function adapterFormat(folder: string): Promise<'sparse' | 'peft'> {
  const found = await findAdapterFolder(folder);
  const config = await readJsonObject(join(found, configName));
  return config.has('finetable') ? 'sparse' : 'peft';
}
