/** Safetensors and npy files: headers, and for what can be a base table some rows. */
import { isFinetableError, rowBytes, rowScales, storedRowBytes, type Matrix } from '@finetable/core';
import {
  isScales,
  openSafetensors,
  quantizedTable,
  readNpyHeader,
  type QuantizedTable,
  type SafetensorsModel,
} from '@finetable/formats';
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
  const model = await openSafetensors(path);
  const { metadata, fileBytes } = model;
  const candidates: TensorReport[] = [];
  const tensors = [...model.tensors].map(([name, { dtype, shape, byteLength, file }]): TensorReport => {
    const report = { name, dtype, shape, sizeBytes: byteLength, file };
    const quantized = quantizedOrProblem(model, name);
    if (typeof quantized === 'string') return { ...report, problem: quantized };
    if (quantized ?? (isFloatTable(report) && !isScales(model.tensors, name))) candidates.push(report);
    return report;
  });
  const tables: TableSample[] = [];
  for (const { name } of candidates.slice(0, sampledTables)) tables.push(await sampleTable(path, name));
  return { kind: 'safetensors', path, sizeBytes: fileBytes, metadata, tensors, tables };
}

/** A quantised table, null for a tensor that is none, or what is wrong: other programs have scales of other kinds. */
function quantizedOrProblem(model: SafetensorsModel, name: string): QuantizedTable | string | null {
  try {
    return quantizedTable(model, name);
  } catch (error) {
    if (isFinetableError(error) && error.code === 'INVALID_FILE') return error.message;
    throw error;
  }
}

export async function inspectNpy(path: string): Promise<TensorsReport> {
  const { dtype, shape, byteLength } = await readNpyHeader(path);
  const tensor: TensorReport = { name: '', dtype, shape, sizeBytes: byteLength, file: path };
  const tables = isFloatTable(tensor) ? [await sampleTable(path, '')] : [];
  return { kind: 'npy', path, sizeBytes: (await stat(path)).size, metadata: {}, tensors: [tensor], tables };
}

function isFloatTable({ dtype, shape }: TensorReport): boolean {
  const isFloat = dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
  return isFloat && shape.length === 2 && shape.every((n) => n >= 1) && shape[0]! <= 0x7fffffff;
}

async function sampleTable(path: string, name: string): Promise<TableSample> {
  const table = await openTable(path, name === '' ? {} : { tensor: name });
  try {
    const first = Int32Array.from({ length: Math.min(shownRows, table.rows) }, (_, i) => i);
    const count = Math.min(sampledRows, table.rows);
    const spread = Int32Array.from({ length: count }, (_, i) =>
      Math.floor((i * (table.rows - 1)) / Math.max(1, count - 1)),
    );
    const { dtype, dim } = table;
    const { groupDims } = table.shards[0]!.store;
    const format = { dtype, dim, groupDims };
    return {
      tensor: name,
      ...format,
      scalesPerRow: rowScales(format),
      rowBytes: storedRowBytes(format),
      f32RowBytes: rowBytes('f32', dim),
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
