/** Whole adapters combined: their groups as low-rank deltas, and the result as an adapter. */
import { FinetableError } from '@finetable/core';
import { loraScale, type GroupTensors } from '@finetable/formats';
import type { Adapter } from '../adapter.ts';
import { adapterOf, adapterTensors } from '../files.ts';
import { combineLowRank, type CombineOptions } from './combine.ts';
import type { LowRank } from './lowrank.ts';

/** A part of a combination. */
export interface WeightedAdapter {
  readonly adapter: Adapter;
  /** What it counts for; negative takes it away. */
  readonly weight: number;
}

/**
 * A new adapter from several of one table, with memory of its own. Groups become low-rank deltas of their rows: `cat` and `svd` take
 * any number of them, the other methods one for each adapter. The result has one group.
 * @throws INVALID_ARGUMENT (no adapters, tables that differ, what `combineLowRank` refuses), UNSUPPORTED for what is not a sum of
 *   low-rank deltas: DoRA, dense groups, `maxNorm`, init `keras`
 */
export function combineAdapters(parts: readonly WeightedAdapter[], options: CombineOptions): Adapter {
  const [first] = parts;
  if (!first) throw new FinetableError('INVALID_ARGUMENT', 'combine: no adapters; at least one is needed');
  const { table } = first.adapter;
  const weighted = parts.flatMap(({ adapter, weight }, p) => {
    if (adapter.table !== table) {
      const message = `combine: parts[${p}] is an adapter of table "${adapter.table.name}", parts[0] of "${table.name}"; allowed: one table`;
      throw new FinetableError('INVALID_ARGUMENT', message);
    }
    if (!adapter.addsApart) unsupported(p, 'has maxNorm, which is not a sum');
    const { groups, magnitude } = adapterTensors(adapter);
    if (magnitude) unsupported(p, 'has DoRA magnitudes, which do not add up; merge it into a table');
    return groups
      .filter(({ rows, untouched }) => groups.length === 1 || rows.length > 0 || untouched !== null)
      .map((group) => ({ delta: lowRank(group, p), weight }));
  });
  const { rows, a, rank, b, scale } = combineLowRank(weighted, table.dim, options);
  const group: GroupTensors = {
    name: 'rest',
    members: null,
    untouched: null,
    kind: 'lora',
    rank,
    alpha: scale * rank,
    rsLora: false,
    rows,
    a,
    b,
  };
  const base = { rows: table.rows, dim: table.dim, dtype: table.dtype, fingerprint: null };
  return adapterOf(table, {
    table: table.name,
    base,
    groups: [group],
    magnitude: null,
    baseSquares: null,
    maxNorm: null,
    grown: null,
  });
}

function lowRank({ name, kind, untouched, rows, a, rank, b, alpha, rsLora }: GroupTensors, part: number): LowRank {
  if (kind === 'dense' || !b)
    return unsupported(part, `has the dense group "${name}", which has no low rank; merge it into a table`);
  if (untouched) return unsupported(part, 'began with init "keras", so that every row of the table has a delta');
  return { rows, a, rank, b, scale: loraScale({ alpha, rank, rsLora }) };
}

function unsupported(part: number, what: string): never {
  throw new FinetableError('UNSUPPORTED', `combine: parts[${part}] ${what}`);
}
