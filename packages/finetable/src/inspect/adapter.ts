/** Adapter folders, sparse and PEFT. */
import { adapterFormat, loadAdapter } from '@finetable/formats';
import type { AdapterReport } from './report.ts';

export async function inspectAdapter(path: string): Promise<AdapterReport> {
  const adapters = await loadAdapter(path);
  return {
    kind: 'adapter',
    path,
    format: await adapterFormat(path),
    adapters: adapters.map(({ table, base, kind, rank, alpha, rsLora, rows, a, b }) => ({
      table,
      base,
      kind,
      rank,
      alpha,
      rsLora,
      touchedRows: rows.length,
      sizeBytes: a.byteLength + (b?.byteLength ?? 0),
    })),
  };
}
