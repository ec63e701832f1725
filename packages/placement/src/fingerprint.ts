/**
 * A fingerprint of a table's stored bytes that stays cheap for any size: SHA-256 over rows, dims and dtype, and over at most
 * 66 blocks of 4 KiB: the first, the last, and 64 spread evenly between. It catches another table, another order or
 * another dtype; it does not catch a change that falls between the sampled blocks of a table over 264 KiB.
 */
import { createHash } from 'node:crypto';
import { rowBytes as bytesOf } from '@finetable/core';
import type { ShardedTable } from './table.ts';

const blockBytes = 4096;
const spread = 64;

export function fingerprintOf(table: ShardedTable): string {
  const rowBytes = bytesOf(table.dtype, table.dim);
  const totalBytes = table.rows * rowBytes;
  const hash = createHash('sha256').update(`finetable 1 ${table.rows} ${table.dim} ${table.dtype}\n`);
  const last = Math.max(0, totalBytes - blockBytes);
  for (let i = 0; i <= spread + 1; i++) {
    const begin = Math.floor((last * i) / (spread + 1));
    hash.update(readAcross(table, begin, Math.min(blockBytes, totalBytes - begin), rowBytes));
  }
  return `sha256-sampled:${hash.digest('hex')}`;
}

/** Bytes of the table as if it were one store. */
function readAcross(table: ShardedTable, begin: number, length: number, rowBytes: number): Uint8Array {
  const out = new Uint8Array(length);
  for (const { store, firstRow } of table.shards) {
    const shardBegin = firstRow * rowBytes;
    const from = Math.max(begin, shardBegin);
    const to = Math.min(begin + length, shardBegin + store.sizeBytes);
    if (from < to) table.kernels.readBytes(store, from - shardBegin, out.subarray(from - begin, to - begin));
  }
  return out;
}
