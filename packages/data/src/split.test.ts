import { describe, expect, test } from 'vitest';
import { openLoader } from './loader.ts';
import { timeOf } from './source/times.ts';
import type { DataSpec, SplitSpec } from './spec.ts';

describe('times', () => {
  test.each([
    ['1970-01-02', 86_400_000],
    ['2009-12-01 07:45:00', Date.UTC(2009, 11, 1, 7, 45)],
    ['2009-12-01T07:45', Date.UTC(2009, 11, 1, 7, 45)],
    ['2024-02-29T23:59:59.250Z', Date.UTC(2024, 1, 29, 23, 59, 59, 250)],
    ['2024-03-01T01:00:00+02:30', Date.UTC(2024, 1, 29, 22, 30)],
    ['2024-03-01T01:00:00-0100', Date.UTC(2024, 2, 1, 2)],
  ])('%s is a date, whatever the zone of the machine', (text, value) => {
    expect(timeOf(text)).toEqual({ kind: 'date', value });
    expect(timeOf(new Date(value))).toEqual({ kind: 'date', value });
  });

  test('numbers are numbers, and all else is none', () => {
    expect([17, '17', '-1.5e3', 17n].map(timeOf)).toEqual(
      [17, 17, -1500, 17].map((value) => ({ kind: 'number', value })),
    );
    for (const value of ['', 'May', '2023-02-29', '2023-13-01', '2023-01-01 25:00', '1/2/2023', NaN, null, [1], true])
      expect(timeOf(value)).toBeNull();
  });
});

describe('splits by time', () => {
  const rows = Array.from({ length: 40 }, (_, id) => ({ id, at: (id * 17) % 40, day: `2024-01-${1 + (id % 28)}` }));
  const idsOf = async (split: SplitSpec): Promise<number[]> => {
    const data: DataSpec = {
      source: { rows },
      features: { id: { table: 'items', column: 'id' } },
      labels: {},
      tables: { items: { rows: 100 } },
      split,
    };
    const loader = await openLoader(data, { batchSize: 16, workers: 0 });
    const ids: number[] = [];
    for await (const { plans } of loader.batches(0)) ids.push(...plans['items']!.placeRows);
    await loader.close();
    return ids;
  };

  test('cut at a time, each example on one side', async () => {
    const [before, after] = [
      await idsOf({ time: { column: 'at', to: 12 } }),
      await idsOf({ time: { column: 'at', from: 12 } }),
    ];
    expect(before).toEqual(rows.filter(({ at }) => at < 12).map(({ id }) => id));
    expect([...before, ...after].sort((a, b) => a - b)).toEqual(rows.map(({ id }) => id));
    expect(await idsOf({ time: { column: 'at', from: 3, to: 5 } })).toEqual(
      rows.filter(({ at }) => at === 3 || at === 4).map(({ id }) => id),
    );
  });

  test.each([
    [{ time: { column: 'at' } }, 'split.time'],
    [{ time: { column: 'at', from: 'soon' } }, 'split.time.from'],
    [{ time: { column: 'at', from: 5, to: 5 } }, 'split.time.to'],
    [{ time: { column: 'at', from: 5, to: '2024-01-01' } }, 'split.time.to'],
    [{ leaveOut: 'test' }, 'split.leaveOut'],
  ])('%j is refused', async (split, path) => {
    await expect(idsOf(split as SplitSpec)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { path } });
  });

  test('a row without such a time is an error that names it', async () => {
    await expect(idsOf({ time: { column: 'at', from: '2024-01-01' } })).rejects.toThrow(
      'rows, row 1, column "at": found 0; allowed: a date, as elsewhere',
    );
    await expect(idsOf({ time: { column: 'day', from: '2024-01-01' } })).rejects.toThrow(
      'rows, row 1, column "day": found "2024-01-1"; allowed: a date, as elsewhere',
    );
  });
});
