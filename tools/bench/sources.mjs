// Examples per second out of files, beside the plain reader of each format in the same run; two workers beside one; memory of a long run.
import {
  closeSync,
  createReadStream,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { openLoader } from '@finetable/data';
import { indexOf, scanFile, SourceReader } from '../../packages/data/dist/source/source.js';
import { medianOf } from './measure.mjs';

/** Node 20 has no zstd. */
const { createGunzip, createZstdDecompress, gzipSync, zstdCompressSync } = zlib;

const rows = 200_000;
const rounds = 5;
const vocabulary = 100_000;
const batchSize = 256;
const fromData = createRequire(new URL('../../packages/data/package.json', import.meta.url));
const resolved = async (name) => import(fromData.resolve(name));
const goals = { reader: 0.8, scaling: 1.7, residentMegabytes: 600 };

/** A user, what it looked at, and a title: about 140 bytes of JSON. */
function example(i) {
  const ids = Array.from({ length: 8 }, (_, j) => (i * 31 + j * 7919) % vocabulary);
  return { user: i % vocabulary, ids, label: `c${i % 10}`, title: `What number ${i} is about, in a few words` };
}

const spec = (file) => ({
  source: { file },
  features: { user: { table: 'items', column: 'user' }, ids: { table: 'items', column: 'ids' } },
  labels: { label: { column: 'label', classes: Array.from({ length: 10 }, (_, i) => `c${i}`) } },
  tables: { items: { rows: vocabulary } },
});

async function writeSources(folder) {
  const { parquetWriteBuffer } = await resolved('hyparquet-writer');
  const { tableFromArrays, tableToIPC } = await resolved('@uwdata/flechette');
  const all = Array.from({ length: rows }, (_, i) => example(i));
  const file = (name) => join(folder, name);
  writeFileSync(file('a.jsonl'), all.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const lines = readFileSync(file('a.jsonl'));
  writeFileSync(file('a.jsonl.gz'), gzipSync(lines));
  if (zstdCompressSync) writeFileSync(file('a.jsonl.zst'), zstdCompressSync(lines));
  const tsv = (row) => `${row.user}\t${row.ids.join(' ')}\t${row.label}\t${row.title}\n`;
  writeFileSync(file('a.tsv'), `user\tids\tlabel\ttitle\n${all.map(tsv).join('')}`);
  const csv = (row) => `${row.user},${row.ids.join(' ')},${row.label},"${row.title}"\n`;
  writeFileSync(file('a.csv'), `user,ids,label,title\n${all.map(csv).join('')}`);
  const columnData = [
    { name: 'user', data: all.map(({ user }) => user), type: 'INT32' },
    { name: 'ids', data: all.map(({ ids }) => ids), type: 'INT32' },
    { name: 'label', data: all.map(({ label }) => label), type: 'STRING' },
    { name: 'title', data: all.map(({ title }) => title), type: 'STRING' },
  ];
  const schema = [
    { name: 'root', num_children: 4 },
    { name: 'user', type: 'INT32', repetition_type: 'REQUIRED' },
    { name: 'ids', repetition_type: 'OPTIONAL', num_children: 1, converted_type: 'LIST' },
    { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
    { name: 'element', type: 'INT32', repetition_type: 'OPTIONAL' },
    { name: 'label', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' },
    { name: 'title', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' },
  ];
  const plain = columnData.map(({ name, data }) => ({ name, data }));
  writeFileSync(
    file('a.parquet'),
    Buffer.from(parquetWriteBuffer({ columnData: plain, schema, rowGroupSize: 10_000 })),
  );
  const arrays = Object.fromEntries(columnData.map(({ name, data }) => [name, data]));
  writeFileSync(file('a.arrow'), tableToIPC(tableFromArrays(arrays, { maxBatchRows: 10_000 }), { format: 'file' }));
}

/** What each format's usual reader does with the same columns: values of every example, and nothing made of them. */
const parseLines = async (input) => {
  let count = 0;
  for await (const line of createInterface({ input })) {
    const { user, ids, label } = JSON.parse(line);
    if (user >= 0 && ids.length > 0 && label) count++;
  }
  return count;
};
const parseFields = async (file, delimiter) => {
  const { parse } = await resolved('csv-parse');
  let count = 0;
  for await (const record of createReadStream(file).pipe(parse({ from_line: 2, delimiter }))) if (record[2]) count++;
  return count;
};
const plainReaders = {
  jsonl: (file) => parseLines(createReadStream(file)),
  'jsonl.gz': (file) => parseLines(createReadStream(file).pipe(createGunzip())),
  'jsonl.zst': (file) => parseLines(createReadStream(file).pipe(createZstdDecompress())),
  csv: (file) => parseFields(file, ','),
  tsv: (file) => parseFields(file, '\t'),
  parquet: async (file) => {
    const { asyncBufferFromFile, parquetReadObjects } = await resolved('hyparquet');
    const { compressors } = await resolved('hyparquet-compressors');
    let count = 0;
    const buffer = await asyncBufferFromFile(file);
    for (let rowStart = 0; rowStart < rows; rowStart += 10_000) {
      const columns = ['user', 'ids', 'label'];
      const read = await parquetReadObjects({
        file: buffer,
        columns,
        compressors,
        rowStart,
        rowEnd: rowStart + 10_000,
      });
      count += read.length;
    }
    return count;
  },
  arrow: async (file) => {
    const { tableFromIPC } = await resolved('@uwdata/flechette');
    const table = tableFromIPC(readFileSync(file));
    const columns = ['user', 'ids', 'label'].map((name) => table.getChild(name));
    let count = 0;
    for (let i = 0; i < table.numRows; i++) if (columns.every((column) => column.at(i) !== null)) count++;
    return count;
  },
};
const readers = {
  jsonl: 'JSON.parse, line by line',
  'jsonl.gz': 'zlib, then JSON.parse, line by line',
  'jsonl.zst': 'zlib, then JSON.parse, line by line',
  csv: 'csv-parse',
  tsv: 'csv-parse',
  parquet: 'hyparquet',
  arrow: 'flechette',
};

/** Milliseconds of an epoch's columns in the order of the file, on this thread. */
async function timeReading(index) {
  const reader = new SourceReader(index, ['user', 'ids', 'label']);
  const numbers = Uint32Array.from({ length: rows }, (_, i) => i);
  const begun = performance.now();
  for (let begin = 0; begin < rows; begin += batchSize) await reader.read(numbers.subarray(begin, begin + batchSize));
  const time = performance.now() - begun;
  reader.close();
  return time;
}

/** Milliseconds until a loader is open: of compressed files that is decompressing them, once for all epochs, and finding the examples. */
async function timeOpening(file) {
  const begun = performance.now();
  const loader = await openLoader(spec(file), { batchSize, workers: 1 });
  const time = performance.now() - begun;
  await loader.close();
  return time;
}

/** Milliseconds of an epoch of batches; threads are up before. */
async function timeLoader(loader) {
  const begun = performance.now();
  let count = 0;
  for await (const batch of loader.batches(0)) {
    count += batch.size;
    // As training does.
    loader.recycle(batch);
  }
  if (count !== rows) throw new Error(`${count} examples of ${rows}`);
  return performance.now() - begun;
}

async function timePlain(format, file) {
  const begun = performance.now();
  const count = await plainReaders[format](file);
  if (count !== rows) throw new Error(`${count} examples of ${rows}`);
  return performance.now() - begun;
}

async function measureFormat(report, format, file) {
  const options = { batchSize, shuffle: true, seed: 1 };
  const isPacked = /\.(gz|zst)$/.test(format);
  const loaders = [
    await openLoader(spec(file), { ...options, workers: 1 }),
    await openLoader(spec(file), { ...options, workers: 2 }),
  ];
  try {
    const index = isPacked ? null : indexOf([await scanFile(file, { file })]);
    const [plain, read, one, two, open] = [[], [], [], [], []];
    for (let round = -1; round < rounds; round++) {
      const times = [
        await timePlain(format, file),
        isPacked ? await timeOpening(file) : await timeReading(index),
        await timeLoader(loaders[0]),
        await timeLoader(loaders[1]),
      ];
      if (round < 0) continue;
      plain.push(times[0]);
      (isPacked ? open : read).push(times[1]);
      one.push(times[2]);
      two.push(times[3]);
    }
    const speed = (times) => `${Math.round(rows / medianOf(times) / 10) / 100} M/s`;
    if (isPacked) report.speedRatio(`${format}: opening, decompressed for all epochs`, readers[format], open, plain);
    else report.speedRatio(`${format}, in order: columns`, readers[format], read, plain, { atLeast: goals.reader });
    report.speedRatio(`${format}, shuffled, one worker: batches with plans`, readers[format], one, plain, {
      atLeast: goals.reader,
    });
    report.speedRatio(`${format}: two workers`, 'one', two, one, { atLeast: goals.scaling });
    report.remark(
      `${format}: ${speed(plain)} plain, ${isPacked ? `opened at ${speed(open)}` : `${speed(read)} read`}, ${speed(one)} with one worker, ${speed(two)} with two.`,
    );
  } finally {
    for (const loader of loaders) await loader.close();
  }
}

export async function measureSources(report) {
  report.section(
    'Reading examples',
    `${rows} examples of a user, 8 ids, a label and a title, of which the title is not wanted; batches of ${batchSize} with their lookup plans, shuffled, ` +
      `beside the format's usual reader, which makes nothing of the values; and their columns alone. ${rounds} rounds; ${availableParallelism()} cores.`,
  );
  const folder = mkdtempSync(join(tmpdir(), 'finetable-bench-'));
  try {
    await writeSources(folder);
    for (const format of Object.keys(plainReaders)) {
      if (format === 'jsonl.zst' && !zstdCompressSync) report.missing(format, readers[format], 'this Node has no zstd');
      else await measureFormat(report, format, join(folder, `a.${format}`));
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export async function measureMemory(report) {
  report.section(
    'A file that is larger than memory should be',
    'Resident memory of a process that does nothing but read the batches, and its threads: every quarter of a second.',
  );
  const folder = mkdtempSync(join(tmpdir(), 'finetable-bench-'));
  try {
    await readLargeFile(report, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** FINETABLE_BENCH_GB of JSON Lines (default 5, 0 for none), read once with two workers, shuffled and in order. */
async function readLargeFile(report, folder) {
  const gigabytes = Number(process.env.FINETABLE_BENCH_GB ?? 5);
  const what = `${gigabytes} GB of JSON Lines, two workers: resident memory`;
  const { bavail, bsize } = statfsSync(folder);
  if (!(gigabytes > 0)) return report.missing(what, '-', 'FINETABLE_BENCH_GB says so');
  if (bavail * bsize < 1.2e9 * gigabytes) {
    return report.missing(what, '-', `${((bavail * bsize) / 1e9).toFixed(1)} GB are free in ${tmpdir()}`);
  }
  const file = join(folder, 'large.jsonl');
  const fd = openSync(file, 'w');
  const chunk = Buffer.from(Array.from({ length: 50_000 }, (_, i) => `${JSON.stringify(example(i))}\n`).join(''));
  let fileBytes = 0;
  for (; fileBytes < gigabytes * 1e9; fileBytes += chunk.length) writeSync(fd, chunk);
  closeSync(fd);
  for (const shuffle of [true, false]) {
    const how = shuffle ? 'shuffled' : 'in order';
    // By itself, since this process has memory of what it measured before.
    const options = JSON.stringify({ spec: spec(file), batchSize, shuffle });
    const script = fileURLToPath(new URL('read-large.mjs', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [script, options]);
    const { base, curve, opened, examples, sizeBytes, seconds } = JSON.parse(stdout);
    const goal = { atMost: goals.residentMegabytes };
    report.value(`${what}, ${how}`, '-', [Math.max(...curve)], ' MB', goal, `before: ${base.toFixed(0)} MB`);
    const points = Array.from({ length: 21 }, (_, i) => curve[Math.floor((i * (curve.length - 1)) / 20)].toFixed(0));
    report.remark(
      `${how}: ${examples} examples in ${seconds.toFixed(0)} s, of which ${opened.toFixed(0)} s for the index; for the batches each byte of the file was read ${(sizeBytes / fileBytes).toFixed(2)} times; ` +
        `resident MB at every twentieth of it: ${points.join(', ')}.`,
    );
  }
}
