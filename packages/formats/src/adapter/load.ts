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
  const found = await findAdapterFolder(folder);
  const config = await readJsonObject(join(found, configName));
  return config.has('finetable') ? loadSparseAdapter(found) : loadPeftAdapter(found);
}
