import { appendFile, mkdtemp, rename, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FinetableError, jagged, makePlan, matrix, type LookupPlan } from '@finetable/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DeviceLookup } from './device.ts';
import { openTable } from './open.ts';
import { FakeDevice } from './testing/fake-device.ts';
import { normals, writeTable } from './testing/table-file.ts';

const V = 100;
const D = 4;
let folder: string;
let path: string;
let device: FakeDevice;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'device-'));
  path = join(folder, 'rows.safetensors');
  await writeTable(path, normals(V, D), { dtype: 'f32', dim: D, groupDims: 0 });
  device = new FakeDevice();
});
afterEach(() => rm(folder, { recursive: true }));

const plan = (...ids: number[]): LookupPlan => makePlan(jagged([ids]), V);
const split = () => [{ home: 'ram', rows: 50 }, { home: device }] as const;

test('what cannot wait says what to wait for', async () => {
  const table = await openTable(path, { placement: split() });
  for (const [call, instead] of [
    [() => table.lookup(plan(1), matrix(1, D)), /rows: lookup cannot wait for rows on device "fake:0"; await fetch/],
    [() => table.gather(Int32Array.of(1)), /await gatherAsync of the table first/],
  ] as const) {
    expect(call).toThrow(expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(instead) }));
  }
  await expect(table.gatherAsync(Int32Array.of(3, V))).rejects.toMatchObject({ code: 'ID_OUT_OF_RANGE' });
  table.close();
});

test('a device that computes: all rows, one part, no cache', async () => {
  const begun: LookupPlan[] = [];
  const lookup = {} as DeviceLookup;
  const open = device.openRows.bind(device);
  device.openRows = async (file, part) => ({
    ...(await open(file, part)),
    begin: (one) => {
      begun.push(one);
      return lookup;
    },
  });
  const one = plan(1, 99);
  const whole = await openTable(path, { placement: device });
  expect(whole.computes).toBe(true);
  expect(whole.begin(one)).toBe(lookup);
  expect(begun).toEqual([one]);
  expect(() => whole.begin(makePlan(jagged([[1]]), V + 1))).toThrow(expect.objectContaining({ code: 'MISMATCH' }));
  whole.close();
  expect(() => whole.begin(one)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  for (const options of [
    { placement: split() },
    { placement: [{ home: device, rows: 50 }, { home: device }] as const },
    { placement: device, cache: { bytes: 100 } },
    { placement: 'ram' as const },
  ]) {
    const table = await openTable(path, options);
    expect(table.computes).toBe(false);
    expect(() => table.begin(one)).toThrow(/rows: no device computes its lookups: one that does must have all rows/);
    table.close();
  }
  expect(device.open).toBe(0);
});

test('only the rows of a plan that are there are fetched, each once', async () => {
  const table = await openTable(path, { placement: split() });
  device.fetchedRows = 0;
  const fetched = await table.fetch(plan(1, 99, 99, 60, 49, 50));
  expect(device.fetchedRows).toBe(3);
  fetched.release();
  table.close();
});

test('fetched rows serve their plan, more than once, until they are released', async () => {
  const table = await openTable(path, { placement: split() });
  const [one, other] = [plan(1, 99), plan(1, 99)];
  const fetched = await table.fetch(one);
  const [out, again] = [matrix(1, D), matrix(1, D)];
  table.lookup(one, out, null, null, fetched);
  const second = await table.fetch(other);
  table.lookup(one, again, null, null, fetched);
  expect(again).toEqual(out);
  expect(() => table.lookup(other, out, null, null, fetched)).toThrow(/must be this plan's and not released/);
  fetched.release();
  fetched.release();
  expect(() => table.lookup(one, out, null, null, fetched)).toThrow(/must be this plan's and not released/);
  // Its memory is another's by now, and a second release does not free that.
  const third = await table.fetch(plan(2, 98));
  fetched.release();
  const fourth = await table.fetch(plan(3, 97));
  table.lookup(third.plan, again, null, null, third);
  const plain = await openTable(path);
  plain.lookup(third.plan, out);
  expect(again).toEqual(out);
  for (const rows of [second, third, fourth]) rows.release();
  plain.close();
  table.close();
});

test('many at once: each is right, and when there is no room left the error says so', async () => {
  const table = await openTable(path, { placement: device });
  const plain = await openTable(path);
  const plans = Array.from({ length: 64 }, (_, i) => plan(i, 99 - i, 7));
  const outs = plans.map(() => matrix(1, D));
  await Promise.all(plans.map((one, i) => table.pool(one, outs[i]!)));
  plans.forEach((one, i) => {
    const expected = matrix(1, D);
    plain.lookup(one, expected);
    expect(outs[i]).toEqual(expected);
  });
  const held = await Promise.all(plans.map((one) => table.fetch(one)));
  await expect(table.pool(plan(1), matrix(1, D))).rejects.toMatchObject({
    code: 'OUT_OF_MEMORY',
    message: expect.stringMatching(/no room to fetch 1 rows from devices: 0 of 65536 staged rows are free/),
  });
  held[0]!.release();
  await table.pool(plan(1), matrix(1, D));
  plain.close();
  table.close();
});

describe('devices that fail', () => {
  test('while fetching: named, and the table is as good as before', async () => {
    const table = await openTable(path, { placement: split() });
    device.before = () => Promise.reject(new Error('line dead'));
    for (let i = 0; i < 100; i++) {
      await expect(table.pool(plan(99), matrix(1, D))).rejects.toMatchObject({
        code: 'IO',
        message: 'rows: 1 rows could not be fetched from device "fake:0": line dead',
      });
    }
    device.before = () => Promise.reject(new FinetableError('OUT_OF_MEMORY', 'cuda:0 is full'));
    await expect(table.fetch(plan(99))).rejects.toMatchObject({ code: 'OUT_OF_MEMORY', message: 'cuda:0 is full' });
    device.before = () => Promise.resolve();
    const out = matrix(1, D);
    await table.pool(plan(99), out);
    expect(out).toEqual(await table.gatherAsync(Int32Array.of(99)));
    table.close();
  });

  test('while opening: everything before is closed', async () => {
    const broken = new FakeDevice('broken:0');
    broken.openRows = () => Promise.reject(new FinetableError('OUT_OF_MEMORY', 'no'));
    const placement = [{ home: device, rows: 10 }, { home: 'ram', rows: 10 }, { home: broken }] as const;
    await expect(openTable(path, { placement })).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' });
    expect(device.open).toBe(0);
    broken.openRows = (file, part) => device.openRows(file, { ...part, rows: 3 });
    await expect(openTable(path, { placement })).rejects.toThrow(
      /device "broken:0" opened \[3, 4\] f32; asked for \[80, 4\] f32/,
    );
    expect(device.open).toBe(0);
  });

  test('that are too small are told before anything is opened', async () => {
    device.capacityBytes = 99 * D * 4;
    const placement = [{ home: device, rows: 60 }, { home: device }];
    await expect(openTable(path, { placement })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: 'rows: its shards on device "fake:0" take 1.56 KiB; the device has 1.55 KiB',
    });
    expect(device.fetches).toBe(0);
  });

  test('that never answer: a signal ends the wait, and closing the table ends what comes later', async () => {
    const table = await openTable(path, { placement: split() });
    const controller = new AbortController();
    let answer!: () => void;
    device.before = () => new Promise((resolve) => (answer = resolve));
    const waiting = table.pool(plan(99), matrix(1, D), controller.signal);
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'INTERRUPTED' });
    answer();
    await expect(table.pool(plan(99), matrix(1, D), controller.signal)).rejects.toMatchObject({ code: 'INTERRUPTED' });
    const late = table.fetch(plan(99));
    table.close();
    answer();
    await expect(late).rejects.toMatchObject({ code: expect.stringMatching(/CLOSED|IO/) });
    await expect(table.fetch(plan(99))).rejects.toMatchObject({ code: 'CLOSED' });
  });
});

describe('placements that are refused', () => {
  test.each([
    [[{ home: 'ram', columns: 2 }], /the shards hold 2 columns, the table has 4/],
    [[{ home: 'ram', columns: 5 }], /shard 0 has 5 columns; allowed: 1 to 4, what the shards before it leave of 4/],
    [
      [
        { home: 'ram', columns: 2 },
        { home: 'ram', columns: 2, rows: 99 },
      ],
      /the shards hold 99 rows, the table has 100/,
    ],
    [
      [
        { home: 'ram', columns: 2, rows: 9 },
        { home: 'ram', columns: 3 },
      ],
      /shard 1 has 3 columns; allowed: 2, as the shard above it, or leave them out/,
    ],
    [[{ home: 'gpu' }], /shard 0 has home "gpu"; allowed: ram, mapped, or a device/],
    [[{ home: 'ram', rows: 1.5 }], /shard 0 has 1.5 rows; allowed: 1 to 100/],
    [[{ home: 'ram', rows: 0 }], /shard 0 has 0 rows/],
    [[], /a table needs at least one shard/],
  ])('%j', async (placement, message) => {
    await expect(openTable(path, { placement: placement as never })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  test.each([
    [[{ home: 'ram', columns: 3 }, { home: 'ram' }], /shard 1 begins at column 3; allowed: an even column/],
    [
      [{ home: 'ram', columns: 16 }, { home: 'ram' }],
      /shard 1 has columns 16 to 63; allowed: columns up to 31, where a group with one scale ends/,
    ],
  ])('of int4 in groups of 32: %j', async (placement, message) => {
    const file = join(folder, 'int4.safetensors');
    await writeTable(file, normals(10, 64), { dtype: 'int4', dim: 64, groupDims: 32 });
    await expect(openTable(file, { placement: placement as never })).rejects.toThrow(message);
  });
});

describe('files that change', () => {
  test('between the header and the mapping', async () => {
    for (const change of [
      () => truncate(path, 200),
      () => appendFile(path, 'x'),
      () => utimes(path, new Date(), new Date(0)),
      async () => {
        await writeFile(`${path}.new`, 'another');
        await rename(`${path}.new`, path);
      },
    ]) {
      await writeTable(path, normals(V, D), { dtype: 'f32', dim: D, groupDims: 0 });
      const changing = new FakeDevice();
      const open = changing.openRows.bind(changing);
      changing.openRows = async (file, part) => {
        const rows = await open(file, part);
        await change();
        return rows;
      };
      const placement = [{ home: changing, rows: 50 }, { home: 'mapped' }] as const;
      await expect(openTable(path, { placement })).rejects.toMatchObject({
        code: 'INVALID_FILE',
        message: expect.stringContaining(path),
      });
      expect(changing.open).toBe(0);
    }
  });

  test('while the table is open', async () => {
    const table = await openTable(path, { placement: [{ home: 'ram', rows: 1 }, { home: 'mapped' }] });
    const copied = await openTable(path, { placement: 'ram' });
    await table.checkUnchanged();
    await utimes(path, new Date(), new Date(5000));
    await expect(table.checkUnchanged()).rejects.toThrow(
      /^rows: .* has changed since it was opened: it was written to; put it back as it was, or open the table again$/,
    );
    await copied.checkUnchanged();
    await rm(path);
    await expect(table.checkUnchanged()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await copied.checkUnchanged();
    table.close();
    copied.close();
  });
});
