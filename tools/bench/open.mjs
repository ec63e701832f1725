// Opening a table of 10 GB: its header is read, its rows are not.
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openTable } from '@finetable/placement';

const bytes = 10e9;
const dim = 64;
const openings = 21;
const megabyte = 1e6;

/** A safetensors file with one [rows, 64] f32 tensor of zeros that take no room on the disk. */
function writeSparse(path) {
  const header = JSON.stringify({
    vectors: { dtype: 'F32', shape: [bytes / dim / 4, dim], data_offsets: [0, bytes] },
  });
  const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const file = openSync(path, 'w');
  writeSync(file, Buffer.concat([length, Buffer.from(padded)]));
  ftruncateSync(file, length.length + padded.length + bytes);
  closeSync(file);
}

export async function measureOpening(report) {
  report.section(
    'Opening a table',
    `A sparse safetensors file of 10 GB, ${openings} times; resident memory of this process before and after.`,
  );
  const folder = mkdtempSync(join(tmpdir(), 'finetable-bench-'));
  try {
    const path = join(folder, 'large.safetensors');
    writeSparse(path);
    const times = [];
    const growth = [];
    for (let i = 0; i < openings; i++) {
      const resident = process.memoryUsage.rss();
      const begun = performance.now();
      const table = await openTable(path);
      times.push(performance.now() - begun);
      growth.push(Math.max(0, process.memoryUsage.rss() - resident) / megabyte);
      table.close();
    }
    report.value('opening 10 GB: time', '-', times, ' ms', { atMost: 100 }, `first: ${times[0].toFixed(1)} ms`);
    report.value(
      'opening 10 GB: resident memory',
      '-',
      growth,
      ' MB',
      { atMost: 50 },
      `most: ${Math.max(...growth).toFixed(1)} MB`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
