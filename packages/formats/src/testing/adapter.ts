/** Adapters of one group for tests, in one breath. */
import type { AdapterTensors, GroupTensors } from '../adapter/tensors.ts';

type Flat = Partial<AdapterTensors> & Partial<GroupTensors> & Pick<AdapterTensors, 'table' | 'base'>;

export function adapterOf({
  table,
  base,
  groups,
  magnitude = null,
  baseSquares = null,
  maxNorm = null,
  grown = null,
  ...group
}: Flat): AdapterTensors {
  const rest = {
    name: 'rest', members: null, untouched: null, kind: 'lora', alpha: 1, rsLora: false, b: null, ...group,
  } as GroupTensors; // prettier-ignore
  return { table, base, groups: [rest, ...(groups ?? [])], magnitude, baseSquares, maxNorm, grown };
}

/** The adapter with its rest group changed. */
export function withRest(adapter: AdapterTensors, change: Partial<GroupTensors>): AdapterTensors {
  return { ...adapter, groups: [{ ...adapter.groups[0]!, ...change }, ...adapter.groups.slice(1)] };
}
