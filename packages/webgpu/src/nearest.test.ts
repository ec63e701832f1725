/** Nearest rows on a GPU, against the kernels. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { matrix, range, type Matrix, type RowFormat } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { openTable, type Metric, type Nearest, type NearestOptions, type ShardedTable } from '@finetable/placement';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { webgpuDevice } from './device.ts';
import { deviceRowBytes } from './rows.ts';
import { rankedRows } from './shaders/nearest.ts';
import { onAdapter } from './testing/adapter.ts';
import { normals, writeTable } from '@finetable/placement/testing';

/** Workgroups, and a bit of one more. */
const V = 2 * rankedRows + 76;
const kernels = loadKernels({ kind: 'portable' });

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webgpu-nearest-'));
  path = join(folder, 'rows.safetensors');
});
afterEach(() => rm(folder, { recursive: true }));

/** The same rows for the kernels and on a device. @param buffers that they take there: five are more than a shader sees */
async function open(values: Matrix, format: RowFormat, buffers = 1): Promise<readonly [ShardedTable, ShardedTable]> {
  await writeTable(path, values, format);
  const bufferBytes = Math.ceil(values.rows / buffers) * deviceRowBytes(format);
  const device = await webgpuDevice({ software: true, bufferBytes });
  return [await openTable(path, { kernels }), await openTable(path, { placement: device })];
}

const f32 = (dim: number): RowFormat => ({ dtype: 'f32', dim, groupDims: 0 });

/** Scores near those of the kernels; rows too, where scores that are near each other may change places. */
function expectNear(found: Nearest, expected: Nearest, every: Nearest, size: number): void {
  const { cols: k, data } = found.scores;
  const V = every.scores.cols;
  const tolerance = 1e-6 * size;
  const faults: string[] = [];
  data.forEach((score, i) => {
    const query = Math.floor(i / k);
    const row = found.rows[i]!;
    const at = every.rows.subarray(query * V, (query + 1) * V).indexOf(row);
    const right = [every.scores.data[query * V + at]!, expected.scores.data[i]!];
    const inOrder = i % k === 0 || data[i - 1]! > score || (data[i - 1] === score && found.rows[i - 1]! < row);
    if (!inOrder || !right.every((x) => Math.abs(score - x) <= tolerance))
      faults.push(`${i}: ${row}, ${score}; ${right.join(', ')}`);
  });
  expect(faults).toEqual([]);
}

const bytesOf = ({ rows, scores }: Nearest): Buffer =>
  Buffer.concat([rows, scores.data].map((x) => Buffer.from(x.buffer, x.byteOffset, x.byteLength)));

onAdapter(() => {
  describe.each([
    { ...f32(6), buffers: 1 },
    { dtype: 'f16', dim: 8, groupDims: 0, buffers: 1 },
    { dtype: 'bf16', dim: 7, groupDims: 0, buffers: 1 },
    { dtype: 'int8', dim: 16, groupDims: 16, buffers: 5 },
    { dtype: 'int4', dim: 70, groupDims: 32, buffers: 1 },
  ] satisfies (RowFormat & { buffers: number })[])('$dtype, $dim dims, $buffers buffers', ({ buffers, ...format }) => {
    test('the rows of the kernels, and the same bytes every time', async () => {
      const [here, there] = await open(normals(V, format.dim), format, buffers);
      const queries = normals(5, format.dim, 2);
      const exclude = Int32Array.of(0, -1, 300, 1, V - 1);
      for (const metric of ['dot', 'cosine'] satisfies Metric[]) {
        const every = await here.nearest(queries, V, { metric });
        const size = metric === 'cosine' ? 1 : 4 * format.dim;
        for (const [k, options] of [
          [1, { metric }],
          [10, { metric, exclude }],
          [rankedRows + 3, { metric }],
          [V, { metric }],
        ] as [number, NearestOptions][]) {
          const expected = await here.nearest(queries, k, options);
          const found = await there.nearest(queries, k, options);
          expectNear(found, expected, every, size);
          expect(bytesOf(await there.nearest(queries, k, options)).equals(bytesOf(found))).toBe(true);
        }
      }
      for (const table of [here, there]) table.close();
    });
  });

  test('ties, numbers at the ends of f32, and what is not a number', async () => {
    const values = matrix(V, 5);
    const rows: Record<number, number> = { 3: 1, 4: 1, 300: 1, 301: -1, 500: 1e30, 501: 1e-30, 502: 1e-42, 503: NaN, 504: Infinity }; // prettier-ignore
    for (const [row, x] of Object.entries(rows)) values.data.fill(x, 5 * Number(row), 5 * Number(row) + 5);
    const queries = matrix(4, 5);
    for (const [query, x] of [1, -2, 1e-30, 0].entries()) queries.data.fill(x, 5 * query, 5 * query + 5);
    const [here, there] = await open(values, f32(5));
    for (const metric of ['dot', 'cosine'] satisfies Metric[]) {
      const expected = await here.nearest(queries, V, { metric });
      const found = await there.nearest(queries, V, { metric });
      found.scores.data.forEach((score, i) => {
        const right = expected.scores.data[i]!;
        if (Number.isFinite(right)) expect(Math.abs(score - right)).toBeLessThanOrEqual(1e-6 * Math.abs(right) + 1e-37);
        else expect(score).toBe(right);
      });
      // Rows 500 and 501 are scaled and so rounded in other places.
      if (metric === 'cosine') expect([...found.rows.subarray(0, 3)]).toEqual([3, 4, 300]);
      else expect([...found.rows.subarray(0, 5)]).toEqual([504, 500, 3, 4, 300]);
      for (const query of [0, 1, 2, 3]) expect(found.rows[(query + 1) * V - 1]).toBe(metric === 'dot' && query < 3 ? 503 : 504); // prettier-ignore
    }
    for (const table of [here, there]) table.close();
  });

  test('more queries than are asked for at a time, none, and closed rows', async () => {
    const device = await webgpuDevice({ software: true });
    await writeTable(path, normals(90, 6), f32(6));
    const here = await openTable(path, { kernels });
    const there = await openTable(path, { placement: device });
    const held = device.heldBytes;
    const queries = here.gather(range(90));
    const found = await there.nearest(queries, 1);
    expect(found.rows).toEqual(range(90));
    expect(await there.nearest(matrix(0, 6), 2)).toEqual({ rows: new Int32Array(0), scores: matrix(0, 2) });
    expect(device.heldBytes).toBe(held);
    there.close();
    await expect(there.nearest(queries, 1)).rejects.toMatchObject({ code: 'CLOSED' });
    here.close();
  });

  test('a device that only keeps rows does not search them', async () => {
    await writeTable(path, normals(9, 6), f32(6));
    const table = await openTable(path, { placement: await webgpuDevice({ software: true, compute: false }) });
    await expect(table.nearest(normals(1, 6), 1)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    table.close();
  });
});
