/** Native stores of every dtype, whole and in parts, and lookups over them. The definition of each dtype is written out here. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16, jagged, makePlan, matrix, type RowDtype } from '@finetable/core';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { elementBytes } from '../check/stores.ts';
import type { Delta, FileRows, Kernels, LookupArgs, Overlay, RowStore, Shard } from '../kernels.ts';
import { deltaOf, firstBeyondRounding, normals, planOf, upTo, type LookupCase } from '../testing/cases.ts';
import { instructionSets, native, needAddon } from '../testing/implementations.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'finetable-native-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

interface Format {
  readonly dtype: RowDtype;
  readonly groupDims: number;
}
const formats = (dim: number): Format[] => [
  { dtype: 'f32', groupDims: 0 },
  { dtype: 'f16', groupDims: 0 },
  { dtype: 'bf16', groupDims: 0 },
  { dtype: 'int8', groupDims: dim },
  { dtype: 'int4', groupDims: dim },
  { dtype: 'int4', groupDims: 32 },
  { dtype: 'int4', groupDims: 64 },
];
/** Of groups that are no wider than the row, as a file's are. */
const formatOf = (dim: number) => fc.constantFrom(...formats(dim).filter(({ groupDims }) => groupDims <= dim));

function roundHalfEven(x: number): number {
  const down = Math.floor(x);
  const above = x - down;
  if (above !== 0.5) return Math.round(x);
  return down % 2 === 0 ? down : down + 1;
}

/** One row's bytes, its scales, and the values that these stand for. */
function encoded(values: Float32Array, { dtype, groupDims }: Format) {
  const elements = Buffer.alloc(elementBytes(dtype, values.length));
  const scales: number[] = [];
  const decoded = values.map((x, c) => {
    if (dtype === 'f32') elements.writeFloatLE(x, 4 * c);
    if (dtype === 'f16') elements.writeUInt16LE(f32ToF16(x), 2 * c);
    if (dtype === 'bf16') elements.writeUInt16LE(f32ToBf16(x), 2 * c);
    if (dtype === 'f16') return f16ToF32(f32ToF16(x));
    if (dtype === 'bf16') return bf16ToF32(f32ToBf16(x));
    if (dtype === 'f32') return x;
    const first = Math.floor(c / groupDims) * groupDims;
    const group = values.subarray(first, first + groupDims);
    const scale = Math.fround(Math.max(...group.map(Math.abs)) / (dtype === 'int8' ? 127 : 7));
    if (c === first) scales.push(scale);
    // A whole number has no -0.
    const q = scale === 0 ? 0 : roundHalfEven(x / scale) + 0;
    if (dtype === 'int8') elements.writeInt8(q, c);
    else elements[c >> 1]! |= (q & 15) << (4 * (c % 2));
    return q * scale;
  });
  return { elements, scales: Buffer.from(Float32Array.from(scales).buffer), decoded };
}

const encodedRows = (rows: number, dim: number, seed: number, format: Format) => {
  const values = normals(rows, dim, seed, 'rows');
  values.data.fill(0, dim, 2 * dim); // row 1 is all zeros
  const each = Array.from(upTo(rows), (v) => encoded(values.data.subarray(v * dim, (v + 1) * dim), format));
  return {
    values,
    bytes: Buffer.concat([...each.map((row) => row.elements), ...each.map((row) => row.scales)]),
    decoded: each.map((row) => row.decoded),
  };
};

function gather(kernels: Kernels, store: RowStore, rows: Int32Array): Float32Array[] {
  const out = matrix(rows.length, store.dim);
  kernels.gatherRows(store, rows, out);
  return Array.from(rows, (_, i) => out.data.slice(i * store.dim, (i + 1) * store.dim));
}

function storedBytes(kernels: Kernels, store: RowStore): Buffer {
  const out = new Uint8Array(store.sizeBytes);
  kernels.readBytes(store, 0, out);
  return Buffer.from(out.buffer);
}

/** A table between other bytes of a file, its scales in another file for odd seeds. */
function fileOf(bytes: Buffer, rows: number, dim: number, { dtype, groupDims }: Format, seed: number): FileRows {
  const size = rows * elementBytes(dtype, dim);
  const [elements, scales] = [bytes.subarray(0, size), bytes.subarray(size)];
  const path = join(folder, `rows-${seed % 2}`);
  const fence = Buffer.alloc(1 + (seed % 70), 0xff);
  if (groupDims === 0) {
    writeFileSync(path, Buffer.concat([fence, elements, fence]));
    return { path, byteOffset: fence.length, rows, dim, dtype };
  }
  if (seed % 2 === 0) {
    writeFileSync(path, Buffer.concat([fence, elements, fence, scales, fence]));
    const byteOffset = 2 * fence.length + size;
    return { path, byteOffset: fence.length, rows, dim, dtype, scales: { path, byteOffset, groupDims } };
  }
  const scalesPath = join(folder, 'scales');
  writeFileSync(path, Buffer.concat([elements, fence]));
  writeFileSync(scalesPath, Buffer.concat([fence, scales]));
  return { path, byteOffset: 0, rows, dim, dtype, scales: { path: scalesPath, byteOffset: fence.length, groupDims } };
}

const shape = fc
  .record({ rows: fc.integer({ min: 2, max: 12 }), dim: fc.integer({ min: 1, max: 300 }), seed: fc.nat() })
  .chain((x) => formatOf(x.dim).map((format) => ({ ...x, format })));

test('rows are encoded and decoded as defined, and their bytes are read and written at any offset', (context) => {
  const addon = needAddon(context);
  for (const set of instructionSets(addon)) {
    const kernels = native(addon, 2, set);
    fc.assert(
      fc.property(shape, fc.nat(), ({ rows, dim, seed, format }, cut) => {
        const { values, bytes, decoded } = encodedRows(rows, dim, seed, format);
        const store = kernels.createRows(rows, dim, format.dtype, format.groupDims);
        kernels.scatterRows(store, upTo(rows), values);
        expect(gather(kernels, store, upTo(rows))).toEqual(decoded);
        expect(storedBytes(kernels, store).equals(bytes)).toBe(true);
        const copy = kernels.createRows(rows, dim, format.dtype, format.groupDims);
        const at = cut % (bytes.length + 1);
        kernels.writeBytes(copy, at, bytes.subarray(at));
        kernels.writeBytes(copy, 0, bytes.subarray(0, at));
        const part = new Uint8Array(bytes.length - at);
        kernels.readBytes(copy, at, part);
        expect(Buffer.from(part).equals(bytes.subarray(at))).toBe(true);
        expect(gather(kernels, copy, upTo(rows))).toEqual(decoded);
        store.close();
        copy.close();
      }),
      { numRuns: 60 },
    );
  }
});

test('special values of bf16, and the smallest scales', (context) => {
  const kernels = native(needAddon(context));
  const special = Float32Array.of(0, -0, Infinity, -Infinity, NaN, 3.4e38, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 2 ** -140);
  const store = kernels.createRows(1, 9, 'bf16');
  kernels.scatterRows(store, Int32Array.of(0), matrix(1, 9, special));
  expect(gather(kernels, store, Int32Array.of(0))[0]).toEqual(special.map((x) => bf16ToF32(f32ToBf16(x))));
  for (const [dtype, most] of [
    ['int8', 127],
    ['int4', 7],
  ] as const) {
    const small = kernels.createRows(1, 3, dtype);
    // The largest / most is subnormal, or 0.
    for (const largest of [2 ** -149, 3 * 2 ** -149, 1000 * 2 ** -149]) {
      kernels.scatterRows(small, Int32Array.of(0), matrix(1, 3, Float32Array.of(largest, -largest, 0)));
      const [found] = gather(kernels, small, Int32Array.of(0));
      const scale = Math.fround(largest / most);
      const q = scale === 0 ? 0 : Math.min(most, roundHalfEven(largest / scale));
      expect([...found!]).toEqual([q * scale, 0 - q * scale, 0]);
    }
  }
});

/** Rows and columns of a table, columns as its groups allow. */
const partOf = (rows: number, dim: number, { dtype, groupDims }: Format, random: number) => {
  const firstRow = random % rows;
  const step = dtype === 'int4' ? 2 : 1;
  const within = random % 3 === 0 && groupDims > 0;
  const group = Math.min(groupDims || 1, dim);
  const firstColumn = within
    ? step * ((random >> 4) % Math.ceil(group / step))
    : (groupDims ? group : step) * ((random >> 4) % Math.ceil(dim / (groupDims ? group : step)));
  const most = (within ? group : dim) - firstColumn;
  const columns = 1 + ((random >> 9) % most);
  return { firstRow, rows: 1 + ((random >> 2) % (rows - firstRow)), firstColumn, columns };
};

test('parts of a file hold what the whole holds there, mapped and in RAM', (context) => {
  const addon = needAddon(context);
  for (const set of instructionSets(addon)) {
    const kernels = native(addon, 2, set);
    fc.assert(
      fc.property(shape, fc.nat(), ({ rows, dim, seed, format }, random) => {
        const { bytes, decoded } = encodedRows(rows, dim, seed, format);
        const file = fileOf(bytes, rows, dim, format, seed);
        const part = partOf(rows, dim, format, random);
        const expected = decoded
          .slice(part.firstRow, part.firstRow + part.rows)
          .map((row) => row.slice(part.firstColumn, part.firstColumn + part.columns));
        const [mapped, ram] = [kernels.openRows(file, 'mapped', part), kernels.openRows(file, 'ram', part)];
        for (const store of [mapped, ram]) {
          expect(store).toMatchObject({ rows: part.rows, dim: part.columns, dtype: format.dtype });
          expect(gather(kernels, store, upTo(part.rows))).toEqual(expected);
        }
        const stored = storedBytes(kernels, ram);
        expect(storedBytes(kernels, mapped).equals(stored)).toBe(true);
        const at = random % stored.length;
        const tail = new Uint8Array(stored.length - at);
        kernels.readBytes(mapped, at, tail);
        expect(Buffer.from(tail).equals(stored.subarray(at))).toBe(true);
        mapped.close();
        ram.close();
      }),
      { numRuns: 80 },
    );
  }
  expect(addon.mappedFiles()).toBe(0);
});

describe('lookup', () => {
  interface Case extends LookupCase {
    readonly format: Format;
    readonly random: number;
  }
  const cases: fc.Arbitrary<Case> = fc
    .record({
      seed: fc.nat(),
      random: fc.nat(),
      tableRows: fc.integer({ min: 4, max: 40 }),
      dim: fc.oneof(fc.constantFrom(1, 8, 64, 128, 256, 300), fc.integer({ min: 1, max: 300 })),
      rank: fc.oneof(fc.constantFrom(0, 1, 8, 16), fc.integer({ min: 1, max: 40 })),
      // A bag of more places than are resolved ahead or fit one tile.
      bagSizes: fc.array(fc.oneof(fc.constantFrom(0, 1, 2, 200), fc.integer({ min: 0, max: 40 })), { maxLength: 20 }),
      weighted: fc.boolean(),
      touched: fc.constantFrom(0, 0.5, 1),
      shards: fc.constantFrom(1, 2, 3, 4),
    })
    .chain((x) => formatOf(x.dim).map((format) => ({ ...x, dtype: format.dtype, format })));

  const run = (kernels: Kernels, x: Case, base: Shard[], overlay: Overlay | null, how: 'fused' | 'apart' = 'fused') => {
    const plan = planOf(x);
    const [out, pooled] = [matrix(x.bagSizes.length, x.dim), x.rank ? matrix(x.bagSizes.length, x.rank) : null];
    out.data.fill(NaN);
    pooled?.data.fill(NaN);
    const delta = deltaOf(kernels, x, plan);
    if (how === 'fused') kernels.lookup({ base, overlay, plan, delta, out, pooledFactors: pooled });
    else {
      kernels.lookup({ base, overlay, plan, out });
      kernels.addDelta({ plan, delta, out, pooledFactors: pooled });
    }
    expectScaled(kernels, { base, overlay, plan, delta, out });
    delta.factors.close();
    return { out: out.data, pooled: pooled?.data ?? null };
  };

  /** The same lookup with columns to multiply by and the base to keep, fused and apart. */
  const expectScaled = (kernels: Kernels, args: LookupArgs & { readonly delta: Delta }): void => {
    const { plan, out } = args;
    const columns = Float32Array.from({ length: out.cols }, (_, j) => j - 1.5);
    const expected = out.data.map((v, i) => v * columns[i % out.cols]!);
    const base = matrix(out.rows, out.cols);
    kernels.lookup({ ...args, delta: null, out: base });
    const pooledBase = matrix(out.rows, out.cols);
    for (const apart of [false, true]) {
      const scaled = { ...base, data: base.data.slice() };
      pooledBase.data.fill(NaN);
      const delta = { ...args.delta, columns, pooledBase };
      if (apart) kernels.addDelta({ plan, delta, out: scaled });
      else kernels.lookup({ ...args, delta, out: scaled });
      expect(pooledBase.data).toEqual(base.data);
      expect(scaled.data).toEqual(expected);
    }
  };

  /** The table in columns, each in shards, some mapped; with an overlay and then holes where it has the rows. */
  const scattered = (kernels: Kernels, x: Case, file: FileRows, whole: RowStore, holes: boolean) => {
    const { groupDims, dtype } = x.format;
    const step = groupDims > 0 && groupDims < x.dim ? groupDims : dtype === 'int4' ? 2 : 1;
    const cuts = [0, ...[x.random % x.dim, (x.random >> 7) % x.dim].map((c) => c - (c % step)), x.dim];
    const columns = [...new Set(cuts)].sort((a, b) => a - b);
    const base: Shard[] = [];
    const holed = holes ? x.random % x.shards : -1;
    columns.slice(1).forEach((end, i) => {
      const firstColumn = columns[i]!;
      for (let s = 0; s < x.shards; s++) {
        const [firstRow, last] = [0, 1].map((k) => Math.floor((x.tableRows * (s + k)) / x.shards)) as [number, number];
        if (s === holed) continue;
        const part = { firstRow, rows: last - firstRow, firstColumn, columns: end - firstColumn };
        base.push({ store: kernels.openRows(file, (s + i) % 2 ? 'ram' : 'mapped', part), firstRow, firstColumn });
      }
    });
    const plan = planOf(x);
    const bytes = storedBytes(kernels, whole);
    const copies = kernels.createRows(x.tableRows, x.dim, dtype, groupDims);
    kernels.writeBytes(copies, 0, bytes);
    const [first, last] = [0, 1].map((k) => Math.floor((x.tableRows * (holed + k)) / x.shards)) as [number, number];
    const slots = plan.uniqueRows.map((row) => ((row >= first && row < last) || (row + x.random) % 3 === 0 ? row : -1));
    return { base, overlay: { rows: copies, slots } };
  };

  test('is the same over parts, columns and copies, fused and apart, and on any number of threads', (context) => {
    const addon = needAddon(context);
    for (const set of instructionSets(addon)) {
      const [kernels, more] = [native(addon, 1, set), native(addon, 3, set)];
      fc.assert(
        fc.property(cases, (x) => {
          const { bytes, decoded } = encodedRows(x.tableRows, x.dim, x.seed, x.format);
          const file = fileOf(bytes, x.tableRows, x.dim, x.format, x.seed);
          const whole = kernels.openRows(file, 'mapped');
          const base = [{ store: whole, firstRow: 0 }];
          const expected = run(kernels, x, base, null);
          const parts = scattered(kernels, x, file, whole, false);
          const holes = scattered(kernels, x, file, whole, true);
          expect(run(kernels, x, base, null, 'apart')).toEqual(expected);
          expect(run(kernels, x, parts.base, null)).toEqual(expected);
          expect(run(more, x, parts.base, parts.overlay)).toEqual(expected);
          expect(run(more, x, holes.base, holes.overlay, 'apart')).toEqual(expected);

          // Over the values that the rows stand for, it is the same within rounding: of weight · scale, and of sums.
          const floats = kernels.createRows(x.tableRows, x.dim, 'f32');
          const magnitudes = kernels.createRows(x.tableRows, x.dim, 'f32');
          decoded.forEach((row, v) => {
            kernels.scatterRows(floats, Int32Array.of(v), matrix(1, x.dim, row));
            kernels.scatterRows(magnitudes, Int32Array.of(v), matrix(1, x.dim, row.map(Math.abs)));
          });
          const [out, bound] = [matrix(x.bagSizes.length, x.dim), matrix(x.bagSizes.length, x.dim)];
          const found = matrix(x.bagSizes.length, x.dim);
          kernels.lookup({ base, plan: planOf(x), out: found });
          kernels.lookup({ base: [{ store: floats, firstRow: 0 }], plan: planOf(x), out });
          kernels.lookup({ base: [{ store: magnitudes, firstRow: 0 }], plan: planOf(x, true), out: bound });
          const terms = Math.max(0, ...x.bagSizes) + 2;
          expect(firstBeyondRounding(found.data, out.data, bound.data, terms)).toBeNull();
          for (const store of [whole, floats, magnitudes, parts.overlay.rows, holes.overlay.rows]) store.close();
          for (const { store } of [...parts.base, ...holes.base]) store.close();
        }),
        { numRuns: 60 },
      );
    }
  });

  test('of an overlay alone', (context) => {
    const kernels = native(needAddon(context));
    const { values, decoded } = encodedRows(3, 40, 5, { dtype: 'int4', groupDims: 32 });
    const rows = kernels.createRows(3, 40, 'int4', 32);
    kernels.scatterRows(rows, upTo(3), values);
    const out = matrix(2, 40);
    const plan = makePlan(jagged([[900], [7]]), 1000);
    kernels.lookup({ base: [], overlay: { rows, slots: Int32Array.of(2, 0) }, plan, out });
    // Unique rows ascend: 7 and 900.
    expect([...out.data]).toEqual([...decoded[0]!, ...decoded[2]!]);
    rows.close();
  });
});

test('the last row of a file that ends with its last page', (context) => {
  const addon = needAddon(context);
  for (const set of instructionSets(addon)) {
    const kernels = native(addon, 1, set);
    for (const dim of [1, 3, 7, 9, 17, 31, 33, 63, 65]) {
      for (const format of formats(dim)) {
        // 4096 rows fill whole pages, and so do their scales.
        const { bytes, decoded } = encodedRows(2, dim, 3, format);
        const size = elementBytes(format.dtype, dim);
        const scales = bytes.subarray(2 * size);
        const path = join(folder, 'pages');
        const scalesPath = join(folder, 'page-scales');
        for (const [name, all, width] of [
          [path, bytes.subarray(0, 2 * size), size],
          [scalesPath, scales, scales.length / 2],
        ] as const) {
          writeFileSync(name, Buffer.concat([Buffer.alloc(4095 * width), all.subarray(0, width)]));
        }
        const location = format.groupDims ? { path: scalesPath, byteOffset: 0, groupDims: format.groupDims } : null;
        const store = kernels.openRows(
          { path, byteOffset: 0, rows: 4096, dim, dtype: format.dtype, scales: location },
          'mapped',
        );
        const out = matrix(1, dim);
        kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged([[4095]]), 4096), out });
        expect(out.data).toEqual(decoded[0]);
        expect(gather(kernels, store, Int32Array.of(4095))).toEqual([decoded[0]]);
        store.close();
      }
    }
  }
});

test('sparse files beyond 4 GiB, of more than 2^31 elements, with scales', (context) => {
  const kernels = native(needAddon(context), 2);
  const dim = 128;
  for (const format of formats(dim).slice(2)) {
    const { bytes, decoded } = encodedRows(2, dim, 11, format);
    const size = elementBytes(format.dtype, dim);
    const scales = bytes.subarray(2 * size);
    const byteOffset = 12_345;
    // Bytes of elements beyond 4 GiB, which for int4 is 2^33 elements.
    const rows = Math.ceil((2 ** 32 + 1e6) / size);
    const scalesOffset = byteOffset + rows * size + 7;
    const width = scales.length / 2;
    const path = join(folder, 'sparse');
    const descriptor = openSync(path, 'w');
    ftruncateSync(descriptor, scalesOffset + rows * width);
    writeSync(descriptor, bytes, 0, size, byteOffset + (rows - 1) * size);
    writeSync(descriptor, scales, 0, width, scalesOffset + (rows - 1) * width);
    closeSync(descriptor);
    const location = format.groupDims ? { path, byteOffset: scalesOffset, groupDims: format.groupDims } : null;
    const file: FileRows = { path, byteOffset, rows, dim, dtype: format.dtype, scales: location };
    const store = kernels.openRows(file, 'mapped');
    expect(gather(kernels, store, Int32Array.of(rows - 1))).toEqual([decoded[0]]);
    const out = matrix(1, dim);
    kernels.lookup({
      base: [{ store, firstRow: 0 }],
      plan: makePlan(jagged([[rows - 1, 5]]), rows),
      out,
    });
    expect(out.data).toEqual(decoded[0]);
    const part = { firstRow: rows - 3, rows: 3, firstColumn: 64, columns: 64 };
    for (const home of ['ram', 'mapped'] as const) {
      const tail = kernels.openRows(file, home, part);
      expect(gather(kernels, tail, Int32Array.of(2))).toEqual([decoded[0]!.slice(64)]);
      tail.close();
    }
    const raw = new Uint8Array(size);
    kernels.readBytes(store, (rows - 1) * size, raw);
    expect(Buffer.from(raw).equals(bytes.subarray(0, size))).toBe(true);
    store.close();
    rmSync(path);
  }
});
