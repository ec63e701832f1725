/** Row stores of both implementations: memory, files, closing, and sizes beyond 32 bits. */
import {
  ftruncateSync,
  truncateSync,
  mkdtempSync,
  openSync,
  closeSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import {
  f32ToF16,
  jagged,
  makePlan,
  matrix,
  rowBytes,
  rowDtypes,
  rowScales,
  type Matrix,
  type RowFormat,
} from '@finetable/core';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FileRows, Kernels, RowStore, TablePart } from './kernels.ts';
import { SkippedSteps } from './skipped.ts';
import { normals, partBytes, upTo } from './testing/cases.ts';
import { native, needAddon, portable, testBoth } from './testing/implementations.ts';

const addonFile = process.env.FINETABLE_ADDON ?? fileURLToPath(new URL('../build/finetable.node', import.meta.url));
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'finetable-rows-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const code = (expected: string, ...parts: string[]) =>
  expect.objectContaining({ code: expected, message: expect.stringMatching(parts.join('.*')) as string }) as Error;

function gather(kernels: Kernels, store: RowStore, ...rows: number[]): number[] {
  const out = matrix(rows.length, store.dim);
  kernels.gatherRows(store, Int32Array.from(rows), out);
  return [...out.data];
}

/** Row v holds v, v + 0.5, v + 1, … after `byteOffset` bytes of 0xff. */
function tableFile(name: string, rows: number, dim: number, dtype: 'f32' | 'f16', byteOffset: number): FileRows {
  const size = dtype === 'f32' ? 4 : 2;
  const bytes = Buffer.alloc(byteOffset + rows * dim * size, 0xff);
  for (let i = 0; i < rows * dim; i++) {
    const value = Math.floor(i / dim) + (i % dim) / 2;
    if (dtype === 'f32') bytes.writeFloatLE(value, byteOffset + i * 4);
    else bytes.writeUInt16LE(f32ToF16(value), byteOffset + i * 2);
  }
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return { path, byteOffset, rows, dim, dtype };
}

testBoth('a new store holds zeros; a row given twice keeps its last value', (kernels) => {
  const store = kernels.createRows(5, 3, 'f32');
  expect(store).toMatchObject({ rows: 5, dim: 3, dtype: 'f32', home: 'ram', sizeBytes: 60, closed: false });
  expect(gather(kernels, store, 0, 4)).toEqual([0, 0, 0, 0, 0, 0]);
  kernels.scatterRows(store, Int32Array.of(4, 1, 4), matrix(3, 3, Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9)));
  expect(gather(kernels, store, 4, 1, 0)).toEqual([7, 8, 9, 4, 5, 6, 0, 0, 0]);
});

testBoth('stored bytes are read and written at any offset', (kernels) => {
  // Across 2 GiB, where the portable store's second chunk begins. Few of its pages are ever written.
  const store = kernels.createRows(2 ** 27 + 2 ** 19, 4, 'f32');
  const bytes = Uint8Array.from({ length: 3_000_001 }, (_, i) => i * 31);
  const at = 2 ** 31 - 1_234_567;
  kernels.writeBytes(store, at, bytes);
  const out = new Uint8Array(bytes.length + 2);
  kernels.readBytes(store, at - 1, out);
  expect(out[0]).toBe(0);
  expect(out[out.length - 1]).toBe(0);
  expect(Buffer.from(out.buffer, 1, bytes.length).equals(Buffer.from(bytes.buffer))).toBe(true);
  store.close();
});

testBoth('a bag has rows on both sides of 2 GiB', (kernels) => {
  const store = kernels.createRows(2 ** 27 + 8, 8, 'f16');
  const rows = [0, 1, 2, 3, 2 ** 27 - 1, 2 ** 27, 2 ** 27 + 1, 7, 2 ** 27 + 7];
  rows.forEach((row, i) =>
    kernels.scatterRows(store, Int32Array.of(row), matrix(1, 8, new Float32Array(8).fill(2 ** i))),
  );
  const out = matrix(1, 8);
  kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged([rows]), store.rows), out });
  expect([...out.data]).toEqual(new Array(8).fill(2 ** rows.length - 1));
  store.close();
});

for (const home of ['ram', 'mapped'] as const) {
  for (const dtype of ['f32', 'f16'] as const) {
    for (const byteOffset of [0, 1, 8, 4095, 5003]) {
      testBoth(`${home} rows of ${dtype} from byte ${byteOffset} of a file`, (kernels) => {
        const file = tableFile(`${kernels.name}-${home}-${dtype}-${byteOffset}`, 700, 9, dtype, byteOffset);
        const store = kernels.openRows(file, home);
        expect(store).toMatchObject({ rows: 700, dim: 9, dtype, home });
        const rows = [0, 350, 699];
        expect(gather(kernels, store, ...rows)).toEqual(
          rows.flatMap((v) => Array.from({ length: 9 }, (_, i) => v + i / 2)),
        );
        const out = matrix(1, 9);
        kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged([[1, 699]]), 700), out });
        expect([...out.data]).toEqual(Array.from({ length: 9 }, (_, i) => 700 + i));
        const raw = new Uint8Array(3);
        kernels.readBytes(store, store.sizeBytes - 3, raw);
        const last =
          dtype === 'f32'
            ? Buffer.from(Float32Array.of(699 + 4).buffer)
            : Buffer.from(Uint16Array.of(f32ToF16(702.5), f32ToF16(703)).buffer);
        expect([...raw]).toEqual([...last.subarray(1)]);
        store.close();
      });
    }
  }
}

testBoth('the last row of a file that ends with its last page', (kernels) => {
  // A vector read past the row's end would leave the mapping.
  for (const dim of [1, 7, 9, 63]) {
    for (const dtype of ['f32', 'f16'] as const) {
      const store = kernels.openRows(tableFile(`pages-${kernels.name}-${dtype}-${dim}`, 2048, dim, dtype, 0), 'mapped');
      const last = Array.from({ length: dim }, (_, i) => 2047 + (dtype === 'f32' ? i / 2 : Math.round(i / 2)));
      const out = matrix(1, dim);
      kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged([[2047]]), 2048), out });
      // f16 steps by 1 between 1024 and 2048 and by 2 above: the first value is exact, the others within 1.
      expect(out.data[0]).toBe(2047);
      out.data.forEach((x, i) => expect(Math.abs(x - last[i]!)).toBeLessThanOrEqual(1));
      expect(gather(kernels, store, 2047)).toEqual([...out.data]);
      store.close();
    }
  }
});

const bytesOf = (kernels: Kernels, store: RowStore): Uint8Array => {
  const bytes = new Uint8Array(store.sizeBytes);
  kernels.readBytes(store, 0, bytes);
  return bytes;
};

testBoth(
  'rows are read as they are stored, in any order and more than once, of every dtype without scales',
  (kernels) => {
    for (const dtype of ['f32', 'f16', 'bf16', 'i32'] as const) {
      const store = kernels.createRows(100, 3, dtype);
      const whole = Uint8Array.from({ length: store.sizeBytes }, (_, i) => (i * 7) % 251);
      kernels.writeBytes(store, 0, whole);
      const width = store.sizeBytes / 100;
      const rows = Int32Array.of(99, 0, 41, 99);
      const out = new Uint8Array(rows.length * width).fill(255);
      kernels.readRows(store, rows, out);
      expect(out).toEqual(
        Uint8Array.from([...rows].flatMap((row) => [...whole.subarray(row * width, (row + 1) * width)])),
      );
      expect(() => kernels.readRows(store, Int32Array.of(100), new Uint8Array(width))).toThrow(
        code('ID_OUT_OF_RANGE', '100'),
      );
      expect(() => kernels.readRows(store, rows, new Uint8Array(width))).toThrow(
        code('INVALID_ARGUMENT', `readRows: out must have ${4 * width} bytes, found ${width}`),
      );
      store.close();
      expect(() => kernels.readRows(store, rows, out)).toThrow(code('CLOSED'));
    }
    const scaled = kernels.createRows(2, 4, 'int8');
    expect(() => kernels.readRows(scaled, Int32Array.of(0), new Uint8Array(4))).toThrow(
      code('INVALID_ARGUMENT', 'without scales, found int8'),
    );
  },
);

function storeOf(kernels: Kernels, values: Matrix, { dtype, groupDims }: RowFormat): RowStore {
  const store = kernels.createRows(values.rows, values.cols, dtype, groupDims);
  kernels.scatterRows(store, upTo(values.rows), values);
  return store;
}

/** Every dtype in D columns; `int4` in each of its groups. */
const formats = (dim: number): RowFormat[] =>
  rowDtypes.flatMap((dtype): RowFormat[] => {
    if (dtype !== 'int4') return [{ dtype, dim, groupDims: dtype === 'int8' ? dim : 0 }];
    return [...new Set([32, 64, 128, dim])].map((groupDims) => ({ dtype, dim, groupDims }));
  });

describe('rows as bytes', () => {
  const littleEndian = (...scales: number[]): number[] => [...new Uint8Array(Float32Array.from(scales).buffer)];

  testBoth('f16 and bf16 are rounded to the nearest, ties to even', (kernels) => {
    const last = 2 ** -8;
    const values = [1, 1 + last, 1 + 3 * last, -2, -0, Infinity, NaN, 2 ** -24, 65504, 65520];
    const [half, bfloat] = (['f16', 'bf16'] as const).map((dtype) => {
      const store = storeOf(kernels, matrix(1, 10, Float32Array.from(values)), { dtype, dim: 10, groupDims: 0 });
      return { bits: [...new Uint16Array(bytesOf(kernels, store).buffer)], values: gather(kernels, store, 0) };
    });
    expect(half!.bits).toEqual([0x3c00, 0x3c04, 0x3c0c, 0xc000, 0x8000, 0x7c00, 0x7e00, 0x0001, 0x7bff, 0x7c00]);
    expect(half!.values).toEqual([...values.slice(0, 9), Infinity]);
    expect(bfloat!.bits).toEqual([0x3f80, 0x3f80, 0x3f82, 0xc000, 0x8000, 0x7f80, 0x7fc0, 0x3380, 0x4780, 0x4780]);
    expect(bfloat!.values).toEqual([1, 1, 1 + 4 * last, -2, -0, Infinity, NaN, 2 ** -24, 65536, 65536]);
  });

  testBoth('int8: a scale for each row', (kernels) => {
    const values = Float32Array.of(127, -63.5, 0.5, 1.5, -126.6, 0, 0, 0, -0, 0, 0.25, -0.125, 31.75, 0, 0.375);
    const store = storeOf(kernels, matrix(3, 5, values), { dtype: 'int8', dim: 5, groupDims: 5 });
    expect(store).toMatchObject({ dtype: 'int8', groupDims: 5, sizeBytes: 3 * 5 + 3 * 4 });
    expect([...bytesOf(kernels, store)]).toEqual([
      ...[127, 256 - 64, 0, 2, 256 - 127],
      ...[0, 0, 0, 0, 0],
      // The scale is 0.25: 1, -0.5, 127, 0 and 1.5.
      ...[1, 0, 127, 0, 2],
      ...littleEndian(1, 0, 0.25),
    ]);
    expect(gather(kernels, store, 2, 0, 1)).toEqual([0.25, 0, 31.75, 0, 0.5, 127, -64, 0, 2, -127, 0, 0, 0, 0, 0]);
  });

  testBoth('int4: two columns a byte, a scale for each group, the last of which is short', (kernels) => {
    const values = new Float32Array(35);
    values.set([7, -7, 3.5, 2.5, 0.5, -1.5]);
    values.set([-14, -4, 3], 32);
    const store = storeOf(kernels, matrix(1, 35, values), { dtype: 'int4', dim: 35, groupDims: 32 });
    expect(store).toMatchObject({ dtype: 'int4', groupDims: 32, sizeBytes: 18 + 8 });
    expect([...bytesOf(kernels, store)]).toEqual([
      ...[0x97, 0x24, 0xe0, ...new Array<number>(13).fill(0)],
      // The scale is 2: -7, -2 and 1.5.
      ...[0xe9, 0x02],
      ...littleEndian(1, 2),
    ]);
    const decoded = new Float32Array(35);
    decoded.set([7, -7, 4, 2, 0, -2]);
    decoded.set([-14, -4, 4], 32);
    expect(gather(kernels, store, 0)).toEqual([...decoded]);
  });

  testBoth('a quantised value is within half a step of what it was, its largest within rounding', (kernels) => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 140 }),
        fc.nat(),
        fc.integer({ min: -30, max: 30 }),
        (dim, seed, exponent) => {
          const values = normals(3, dim, seed, 'values');
          values.data.forEach((x, i) => (values.data[i] = x * 2 ** exponent));
          for (const format of formats(dim).filter(({ groupDims }) => groupDims > 0)) {
            const most = format.dtype === 'int8' ? 127 : 7;
            const { groupDims } = format;
            const store = storeOf(kernels, values, format);
            const decoded = gather(kernels, store, 0, 1, 2);
            for (let row = 0; row < 3; row++) {
              for (let first = 0; first < dim; first += groupDims) {
                const group = values.data.subarray(row * dim + first, row * dim + Math.min(dim, first + groupDims));
                const peak = group.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
                group.forEach((x, i) => {
                  const error = Math.abs(decoded[row * dim + first + i]! - x);
                  expect(error).toBeLessThanOrEqual(peak / most / 2 + peak * 2 ** -22);
                  if (Math.abs(x) === peak) expect(error).toBeLessThanOrEqual(peak * 2 ** -22);
                });
              }
            }
            store.close();
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  testBoth('the smallest and the largest values have a scale', (kernels) => {
    const tiny = 2 ** -149;
    for (const dtype of ['int8', 'int4'] as const) {
      const most = dtype === 'int8' ? 127 : 7;
      const values = matrix(3, 2, Float32Array.of(tiny, -tiny, tiny * Math.floor(1.4 * most), tiny, 3e38, -1e38));
      const store = storeOf(kernels, values, { dtype, dim: 2, groupDims: 2 });
      const found = gather(kernels, store, 0, 1, 2);
      // tiny / most is 0, and 1.4 tiny is tiny: what is larger than most times the scale is stored as that.
      expect(found.slice(0, 4)).toEqual([0, 0, most * tiny, tiny]);
      expect(Math.abs(found[4]! / 3e38 - 1)).toBeLessThan(1e-6);
      expect(Math.abs(found[5]! / 1e38 + 1)).toBeLessThan(1.5 / most);
    }
    const store = kernels.createRows(1, 2, 'int8');
    expect(() => kernels.scatterRows(store, Int32Array.of(0), matrix(1, 2, Float32Array.of(1, NaN)))).toThrow(
      code('NON_FINITE', 'values\\[0, 1\\]'),
    );
  });

  testBoth('bytes of elements and scales are written and read across their border', (kernels) => {
    for (const format of formats(70)) {
      const store = storeOf(kernels, normals(9, 70, 3, 'values'), format);
      const bytes = bytesOf(kernels, store);
      const copy = kernels.createRows(9, 70, format.dtype, format.groupDims);
      for (let at = 0; at < bytes.length; at += 111) kernels.writeBytes(copy, at, bytes.subarray(at, at + 111));
      expect(bytesOf(kernels, copy)).toEqual(bytes);
      expect(gather(kernels, copy, 8, 0)).toEqual(gather(kernels, store, 8, 0));
      const middle = new Uint8Array(50);
      const border = 9 * rowBytes(format.dtype, 70) - (rowScales(format) > 0 ? 25 : 50);
      kernels.readBytes(store, border, middle);
      expect(middle).toEqual(bytes.subarray(border, border + 50));
    }
  });
});

describe('parts of a table in files', () => {
  /** A table of normal values in files, at odd offsets, and its bytes. */
  function quantisedFile(kernels: Kernels, name: string, rows: number, format: RowFormat) {
    const store = storeOf(kernels, normals(rows, format.dim, 5, 'table'), format);
    const whole = bytesOf(kernels, store);
    store.close();
    const [path, scalesPath] = [join(folder, name), join(folder, `${name}.scales`)];
    const elements = rows * rowBytes(format.dtype, format.dim);
    writeFileSync(path, Buffer.concat([Buffer.alloc(3, 0xff), whole.subarray(0, elements)]));
    writeFileSync(scalesPath, Buffer.concat([Buffer.alloc(5, 0xff), whole.subarray(elements)]));
    const { dtype, dim, groupDims } = format;
    const scales = groupDims > 0 ? { path: scalesPath, byteOffset: 5, groupDims } : null;
    return { file: { path, byteOffset: 3, rows, dim, dtype, scales } satisfies FileRows, whole };
  }

  function expectPart(kernels: Kernels, file: FileRows, whole: Uint8Array, part: TablePart, rows: readonly number[]) {
    const { dtype, dim } = file;
    const groupDims = file.scales?.groupDims ?? 0;
    const expected = Buffer.from(partBytes(whole, { dtype, dim, groupDims }, file.rows, part).buffer);
    const all = kernels.openRows(file, 'ram');
    const slice = rows.flatMap((row) =>
      gather(kernels, all, part.firstRow + row).slice(part.firstColumn, part.firstColumn + part.columns),
    );
    for (const home of ['ram', 'mapped'] as const) {
      const store = kernels.openRows(file, home, part);
      expect(store).toMatchObject({
        rows: part.rows,
        dim: part.columns,
        groupDims: Math.min(groupDims, part.columns),
        sizeBytes: expected.length,
      });
      expect(expected.equals(bytesOf(kernels, store))).toBe(true);
      for (const at of [1, expected.length - 10]) {
        const few = new Uint8Array(9);
        kernels.readBytes(store, at, few);
        expect(expected.subarray(at, at + 9).equals(few)).toBe(true);
      }
      expect(gather(kernels, store, ...rows)).toEqual(slice);
      store.close();
    }
    all.close();
  }

  testBoth('are slices of the whole', (kernels) => {
    for (const format of formats(140)) {
      const { dtype, dim, groupDims } = format;
      const { file, whole } = quantisedFile(kernels, `part-${kernels.name}-${dtype}-${groupDims}`, 50, format);
      const columns: [number, number][] = [[0, dim]];
      if (dtype !== 'int4') columns.push([0, 17], [17, 100], [139, 1]);
      else if (groupDims === dim) columns.push([0, 16], [16, 32], [48, 92]);
      else columns.push([0, groupDims], [groupDims, dim - groupDims], [groupDims / 2, groupDims / 2], [2, 14]);
      for (const [firstColumn, count] of columns) {
        for (const [firstRow, rows] of [
          [0, 50],
          [13, 21],
        ] as const) {
          const part = { firstRow, rows, firstColumn, columns: count };
          expectPart(kernels, file, whole, part, [0, 20, 7, 7]);
        }
      }
    }
  });

  testBoth('are read in more than one piece', (kernels) => {
    // More than 4 MiB of rows, of which some columns are taken.
    const format = { dtype: 'int8', dim: 64, groupDims: 64 } as const;
    const { file, whole } = quantisedFile(kernels, `large-${kernels.name}`, 70_000, format);
    const part = { firstRow: 1000, rows: 68_000, firstColumn: 5, columns: 7 };
    expectPart(kernels, file, whole, part, [0, 65_535, 65_536, 67_999]);
    rmSync(file.path);
  });

  testBoth('of one bag that share a place in a cache of 64 MiB are told apart', (kernels) => {
    const dim = 2048;
    for (const dtype of ['f32', 'f16', 'int8'] as const) {
      const groupDims = dtype === 'int8' ? dim : 0;
      const bytes = rowBytes(dtype, dim);
      const places = Math.floor(2 ** 26 / (bytes + (groupDims > 0 ? 4 : 0)));
      const [path, scalesPath] = [join(folder, `conflicts-${kernels.name}`), join(folder, `scales-${kernels.name}`)];
      const rows = 2 * places + 1;
      const values = matrix(3, dim);
      values.data.forEach((_, i) => (values.data[i] = (1 + Math.floor(i / dim)) * (i % dim === 0 ? 127 : 1)));
      const store = storeOf(kernels, values, { dtype, dim, groupDims });
      const stored = bytesOf(kernels, store);
      const files = [openSync(path, 'w'), openSync(scalesPath, 'w')] as const;
      for (let i = 0; i < 3; i++) {
        writeSync(files[0], stored, i * bytes, bytes, i * places * bytes);
        if (groupDims > 0) writeSync(files[1], stored, 3 * bytes + 4 * i, 4, i * places * 4);
      }
      files.forEach((file) => {
        closeSync(file);
      });
      const scales = groupDims > 0 ? { path: scalesPath, byteOffset: 0, groupDims } : null;
      const mapped = kernels.openRows({ path, byteOffset: 0, rows, dim, dtype, scales }, 'mapped');
      const plan = makePlan(jagged([[0, places, 2 * places, 0, places]]), rows);
      const out = matrix(1, dim);
      kernels.lookup({ base: [{ store: mapped, firstRow: 0 }], plan, out });
      expect([out.data[0], ...out.data.subarray(dim - 2)]).toEqual([9 * 127, 9, 9]);
      mapped.close();
      rmSync(path);
    }
  });

  testBoth('in RAM and mapped, looked up side by side, give the bytes of the whole', (kernels) => {
    for (const format of formats(140)) {
      const { dtype, groupDims } = format;
      const { file } = quantisedFile(kernels, `homes-${kernels.name}-${dtype}-${groupDims}`, 50, format);
      const ids = Array.from({ length: 90 }, (_, i) => (i * 37) % 50);
      const plan = makePlan(jagged([ids.slice(0, 1), ids.slice(1, 40), [], ids.slice(40), [4, 4, 49, 30, 4]]), 50);
      const split = dtype === 'int4' && groupDims < 140 ? groupDims : 62;
      const parts = [0, 1].flatMap((c) =>
        [0, 1, 2].map((r) => {
          const part = {
            firstRow: r * 20,
            rows: r === 2 ? 10 : 20,
            firstColumn: c * split,
            columns: c === 0 ? split : 140 - split,
          };
          return { store: kernels.openRows(file, (r + c) % 2 === 0 ? 'mapped' : 'ram', part), ...part };
        }),
      );
      const whole = [{ store: kernels.openRows(file, 'ram'), firstRow: 0 }];
      const [expected, found] = [whole, parts].map((base) => {
        const out = matrix(5, 140);
        kernels.lookup({ base, plan, out });
        return Buffer.from(out.data.buffer);
      });
      expect(found!.equals(expected!)).toBe(true);
      for (const { store } of [...whole, ...parts]) store.close();
    }
  });

  testBoth('of no rows are empty', (kernels) => {
    const { file } = quantisedFile(kernels, `none-${kernels.name}`, 4, { dtype: 'int8', dim: 8, groupDims: 8 });
    for (const home of ['ram', 'mapped'] as const) {
      const store = kernels.openRows(file, home, { firstRow: 4, rows: 0, firstColumn: 2, columns: 3 });
      expect(store).toMatchObject({ rows: 0, dim: 3, sizeBytes: 0 });
      store.close();
    }
  });

  test('portable: a row whose scales cannot be read is read again', () => {
    const { file } = quantisedFile(portable, 'shrunken-scales', 40, { dtype: 'int8', dim: 8, groupDims: 8 });
    const store = portable.openRows(file, 'mapped');
    const expected = portable.openRows(file, 'ram');
    const scales = new Uint8Array(40 * 4);
    portable.readBytes(expected, 40 * 8, scales);
    truncateSync(file.scales!.path, 50);
    expect(() => gather(portable, store, 39)).toThrow(code('INVALID_FILE', 'scales: ends at byte'));
    writeFileSync(file.scales!.path, Buffer.concat([Buffer.alloc(5), scales]));
    expect(gather(portable, store, 39)).toEqual(gather(portable, expected, 39));
    store.close();
  });
});

describe('files that cannot be opened', () => {
  testBoth('too short: both sizes are named', (kernels) => {
    const file = { ...tableFile('short', 10, 4, 'f32', 16), rows: 11 };
    for (const home of ['ram', 'mapped'] as const) {
      expect(() => kernels.openRows(file, home)).toThrow(code('INVALID_FILE', 'short', '192', '176'));
    }
  });
  testBoth('not there, or not a file', (kernels) => {
    const file = { path: join(folder, 'absent'), byteOffset: 0, rows: 1, dim: 1, dtype: 'f32' as const };
    expect(() => kernels.openRows(file, 'mapped')).toThrow(code('NOT_FOUND', 'absent'));
    expect(() => kernels.openRows({ ...file, path: folder }, 'ram')).toThrow(
      code('INVALID_FILE', 'not a regular file'),
    );
  });
  test('portable: a file that becomes shorter is noticed when its row is read', () => {
    const file = tableFile('shrinks', 10, 4, 'f32', 0);
    const store = portable.openRows(file, 'mapped');
    writeFileSync(file.path, Buffer.alloc(100));
    expect(() => gather(portable, store, 9)).toThrow(code('INVALID_FILE', 'ends at byte'));
    store.close();
  });
});

testBoth('a mapped store cannot be written', (kernels) => {
  const store = kernels.openRows(tableFile('read-only', 4, 2, 'f32', 0), 'mapped');
  expect(() => kernels.scatterRows(store, Int32Array.of(0), matrix(1, 2))).toThrow(code('INVALID_ARGUMENT', 'mapped'));
  expect(() => kernels.writeBytes(store, 0, new Uint8Array(1))).toThrow(code('INVALID_ARGUMENT', 'mapped'));
  const rule = { type: 'sgd', learningRate: 1, momentum: 0, weightDecay: 0, decay: 'l2' } as const;
  const update = { parameters: store, state: [], rule, step: 1, slots: Int32Array.of(0), gradients: matrix(1, 2) };
  expect(() => kernels.updateRows(update)).toThrow(code('INVALID_ARGUMENT', 'mapped'));
  expect(gather(kernels, store, 0)).toEqual([0, 0.5]);
  store.close();
});

testBoth('a closed store may be closed again and is refused everywhere else', (kernels) => {
  const store = kernels.createRows(2, 2, 'f32');
  store.close();
  store.close();
  expect(store.closed).toBe(true);
  const out = matrix(1, 2);
  const plan = makePlan(jagged([[1]]), 2);
  const rule = { type: 'sgd', learningRate: 1, momentum: 0, weightDecay: 0, decay: 'l2' } as const;
  const skipped = new SkippedSteps(rule);
  const delta = { factors: store, slots: Int32Array.of(0), b: null, scale: 1 };
  const calls: (() => void)[] = [
    () => kernels.gatherRows(store, Int32Array.of(0), out),
    () => kernels.scatterRows(store, Int32Array.of(0), out),
    () => kernels.readBytes(store, 0, new Uint8Array(1)),
    () => kernels.writeBytes(store, 0, new Uint8Array(1)),
    () => kernels.lookup({ base: [{ store, firstRow: 0 }], plan, out }),
    () => kernels.addDelta({ plan, delta, out }),
    () => kernels.updateRows({ parameters: store, state: [], rule, step: 1, slots: Int32Array.of(0), gradients: out }),
    () =>
      kernels.replayRows({ parameters: store, state: [], skipped, step: 1, slots: Int32Array.of(0), lastSteps: store }),
  ];
  for (const call of calls) expect(call).toThrow(code('CLOSED', 'closed'));
});

testBoth('a store of more than 2^31 elements, of which two rows are used', (kernels) => {
  const rows = 2 ** 25;
  const store = kernels.createRows(rows, 128, 'f32'); // 16 GiB of addresses
  const values = matrix(
    2,
    128,
    Float32Array.from({ length: 256 }, (_, i) => i),
  );
  kernels.scatterRows(store, Int32Array.of(rows - 1, 2 ** 24), values);
  expect(gather(kernels, store, rows - 1)).toEqual([...values.data.subarray(0, 128)]);
  const out = matrix(1, 128);
  kernels.lookup({
    base: [{ store, firstRow: 0 }],
    plan: makePlan(jagged([[2 ** 24, rows - 1, 2 ** 24 - 1]]), rows),
    out,
  });
  expect([...out.data]).toEqual(Array.from({ length: 128 }, (_, i) => 2 * i + 128));
  const raw = new Uint8Array(4);
  kernels.readBytes(store, store.sizeBytes - 4, raw);
  expect(new Float32Array(raw.buffer)[0]).toBe(127);
  const delta = { factors: store, slots: Int32Array.of(rows - 1), b: null, scale: 1 };
  kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged([[0]]), rows), delta, out });
  expect([...out.data]).toEqual([...values.data.subarray(0, 128)]);
  store.close();
});

testBoth('a sparse file of more than 4 GiB is mapped and read at its far end', (kernels) => {
  const path = join(folder, `sparse-${kernels.name}`);
  const [rows, dim, byteOffset] = [70_000_001, 16, 12_345];
  const descriptor = openSync(path, 'w');
  ftruncateSync(descriptor, byteOffset + rows * dim * 4);
  writeSync(
    descriptor,
    Buffer.from(Float32Array.from({ length: dim }, (_, i) => i + 1).buffer),
    0,
    dim * 4,
    byteOffset + (rows - 1) * dim * 4,
  );
  closeSync(descriptor);
  const store = kernels.openRows({ path, byteOffset, rows, dim, dtype: 'f32' }, 'mapped');
  expect(gather(kernels, store, rows - 1, rows - 2)).toEqual([
    ...Array.from({ length: dim }, (_, i) => i + 1),
    ...new Array<number>(dim).fill(0),
  ]);
  // The same bytes as a shard that begins beyond 4 GiB.
  const tail = kernels.openRows(
    { path, byteOffset: byteOffset + (rows - 10) * dim * 4, rows: 10, dim, dtype: 'f32' },
    'mapped',
  );
  expect(gather(kernels, tail, 9)[15]).toBe(16);
  tail.close();
  store.close();
  rmSync(path);
});

testBoth('a size that no machine has is refused', (kernels) => {
  expect(() => kernels.createRows(0x7fffffff, 2 ** 24, 'f32')).toThrow(code('OUT_OF_MEMORY', 'TiB'));
});

test('a store of the other implementation is refused', (context) => {
  const other = native(needAddon(context));
  const store = portable.createRows(1, 1, 'f32');
  expect(() => other.gatherRows(store, Int32Array.of(0), matrix(1, 1))).toThrow(code('INVALID_ARGUMENT', 'native'));
  expect(() => portable.gatherRows(other.createRows(1, 1, 'f32'), Int32Array.of(0), matrix(1, 1))).toThrow(
    code('INVALID_ARGUMENT', 'portable'),
  );
});

describe('native: one mapping for all threads', () => {
  test('a worker that opens the same file gets the same mapping; it goes with its last store', async (context) => {
    const addon = needAddon(context);
    const kernels = native(addon);
    const file = tableFile('shared', 1000, 8, 'f32', 64);
    const before = addon.mappedFiles();
    const store = kernels.openRows(file, 'mapped');
    // Part of its rows and columns, and another table that the file might hold.
    const part = kernels.openRows(file, 'mapped', { firstRow: 10, rows: 5, firstColumn: 2, columns: 3 });
    const other = kernels.openRows({ ...file, byteOffset: 128, rows: 10 }, 'mapped');
    expect(addon.mappedFiles()).toBe(before + 1);
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const addon = require(workerData.addonFile);
       const descriptor = require('node:fs').openSync(workerData.path, 'r');
       const context = addon.createContext(null, 4);
       const open = (byteOffset, rows) => addon.openRows(context, true, rows, 8, 0, 0, descriptor, byteOffset, 32, -1, 0, 0);
       const rows = open(64, 1000);
       parentPort.kept = open(128, 10); // not to be collected
       parentPort.postMessage(addon.mappedFiles());
       parentPort.once('message', () => {
         const out = new Float32Array(8);
         addon.gatherRows(context, rows, Int32Array.of(7), out);
         addon.closeRows(rows);
         parentPort.postMessage({ out, left: addon.mappedFiles() });
         parentPort.close();
       });`,
      { eval: true, workerData: { addonFile, path: file.path } },
    );
    const exited = new Promise((resolve) => worker.once('exit', resolve));
    const next = () => new Promise<unknown>((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect(await next()).toBe(before + 1);
    store.close();
    other.close();
    expect(gather(kernels, part, 4)).toEqual([15, 15.5, 16]);
    part.close();
    expect(addon.mappedFiles()).toBe(before + 1);
    const reply = next();
    worker.postMessage('go on');
    expect(await reply).toEqual({ out: Float32Array.from({ length: 8 }, (_, i) => 7 + i / 2), left: before + 1 });
    await exited;
    // The store that the worker left open was freed with the worker.
    expect(addon.mappedFiles()).toBe(before);
  });

  test('a file that was replaced is another mapping', (context) => {
    const addon = needAddon(context);
    const kernels = native(addon);
    const first = kernels.openRows(tableFile('versions', 10, 2, 'f32', 0), 'mapped');
    rmSync(join(folder, 'versions'));
    const second = kernels.openRows({ ...tableFile('versions', 10, 2, 'f32', 8), byteOffset: 0 }, 'mapped');
    expect(gather(kernels, first, 3)).toEqual([3, 3.5]);
    expect(gather(kernels, second, 3)).toEqual([2, 2.5]);
    first.close();
    second.close();
  });

  test('a process ends cleanly whose only users of the addon were workers', (context) => {
    needAddon(context);
    // Each worker leaves the pool's threads asleep in code that Node would unload with it.
    const work = `const { Worker } = require('node:worker_threads');
      const body = ${JSON.stringify(`
        const addon = require(${JSON.stringify(addonFile)});
        const context = addon.createContext(null, 8);
        const a = new Float32Array(512 * 512).fill(1), out = new Float32Array(512 * 512);
        addon.matmul(context, 512, 512, 512, a, false, a, false, out, 1);
        if (out[12345] !== 512) throw new Error('wrong product ' + out[12345]);`)};
      const run = () => new Promise((done, fail) => new Worker(body, { eval: true }).once('error', fail).once('exit', done));
      (async () => {
        await run();
        await Promise.all([run(), run(), run()]);
        await new Promise((done) => setTimeout(done, 50));
        process.stdout.write('clean');
      })();`;
    const child = spawnSync(process.execPath, ['-e', work], { encoding: 'utf8', timeout: 30_000 });
    expect(child).toMatchObject({ status: 0, signal: null, stdout: 'clean', stderr: '' });
  });
});
