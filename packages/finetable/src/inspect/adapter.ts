/** Adapter folders, sparse and PEFT. */
import { adapterFormat, loadAdapter } from '@finetable/formats';
import type { AdapterReport } from './report.ts';

export async function inspectAdapter(path: string): Promise<AdapterReport> {
  const adapters = await loadAdapter(path);
  return {
    kind: 'adapter',
    path,
    format: await adapterFormat(path),
    adapters: adapters.map(({ table, base, groups, magnitude, maxNorm, grown }) => ({
      table,
      base,
      dora: magnitude !== null,
      maxNorm,
      grownRows: (grown?.length ?? 0) / base.dim,
      groups: groups.map(({ name, members, untouched, kind, rank, alpha, rsLora, rows, a, b }) => ({
        name,
        members: members && countRows(members),
        randomStart: untouched !== null,
        kind,
        rank,
        alpha,
        rsLora,
        touchedRows: rows.length,
        sizeBytes: a.byteLength + (b?.byteLength ?? 0),
      })),
    })),
  };
}

function countRows(ranges: Int32Array): number {
  return ranges.reduce((sum, bound, i) => sum + (i % 2 === 0 ? -bound : bound), 0);
}
