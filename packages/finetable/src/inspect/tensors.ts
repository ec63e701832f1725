/** Safetensors and npy files: headers, and for what can be a base table some rows. */
import type { Matrix } from '@finetable/core';
import { openSafetensors, readNpyHeader } from '@finetable/formats';
import { openTable } from '@finetable/placement';
import { stat } from 'node:fs/promises';
import type { RowStatistics, TableSample, TensorReport, TensorsReport } from './report.ts';

/** Rows whose statistics are shown. */
const shownRows = 3;
/** Rows looked at for NaN, spread over the table: each costs a page of the file at most. */
const sampledRows = 256;
/** A model of many matrices is a list; its rows say little. */
const sampledTables = 4;

export async function inspectSafetensors(path: string): Promise<TensorsReport> {
  const { tensors, metadata, fileBytes } = await openSafetensors(path);
  const reports = [...tensors].map(([name, { dtype, shape, byteLength, file }]): TensorReport => ({
    name,
    dtype,
    shape,
    sizeBytes: byteLength,
    file,
  }));
  const tables: TableSample[] = [];
  for (const tensor of reports.filter(canBeTable).slice(0, sampledTables)) tables.push(await sampleTable(path, tensor));
  return { kind: 'safetensors', path, sizeBytes: fileBytes, metadata, tensors: reports, tables };
}

export async function inspectNpy(path: string): Promise<TensorsReport> {
  const { dtype, shape, byteLength } = await readNpyHeader(path);
  const tensor: TensorReport = { name: '', dtype, shape, sizeBytes: byteLength, file: path };
  const tables = canBeTable(tensor) ? [await sampleTable(path, tensor)] : [];
  return { kind: 'npy', path, sizeBytes: (await stat(path)).size, metadata: {}, tensors: [tensor], tables };
}

function canBeTable({ dtype, shape }: TensorReport): boolean {
  return (
    (dtype === 'F32' || dtype === 'F16') && shape.length === 2 && shape.every((n) => n >= 1) && shape[0]! <= 0x7fffffff
  );
}

async function sampleTable(path: string, { name }: TensorReport): Promise<TableSample> {
  const table = await openTable(path, name === '' ? {} : { tensor: name });
  try {
    const first = Int32Array.from({ length: Math.min(shownRows, table.rows) }, (_, i) => i);
    const count = Math.min(sampledRows, table.rows);
    const spread = Int32Array.from({ length: count }, (_, i) =>
      Math.floor((i * (table.rows - 1)) / Math.max(1, count - 1)),
    );
    return {
      tensor: name,
      rows: rowStatistics(table.gather(first)),
      sampledRows: count,
      nonFiniteRows: rowStatistics(table.gather(spread)).filter(({ norm }) => !Number.isFinite(norm)).length,
    };
  } finally {
    table.close();
  }
}

/** Of each row; the rows are numbered from 0. NaN makes every figure of its row NaN. */
export function rowStatistics({ data, rows, cols }: Matrix): RowStatistics[] {
  return Array.from({ length: rows }, (_, row) => {
    let min = Infinity;
    let max = -Infinity;
    let squares = 0;
    for (const value of data.subarray(row * cols, (row + 1) * cols)) {
      min = Math.min(min, value);
      max = Math.max(max, value);
      squares += value * value;
    }
    return { row, min, max, norm: Math.sqrt(squares) };
  });
}
