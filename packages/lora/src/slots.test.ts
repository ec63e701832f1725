import fc from 'fast-check';
import { expect, test } from 'vitest';
import { loadKernels } from '@finetable/kernels';
import { SlotMap } from './slots.ts';

test('rows get slots in order of first touch and keep them, like a Map', () => {
  const rowLists = fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 3000 }), { maxLength: 400 }), { maxLength: 12 });
  fc.assert(
    fc.property(rowLists, (lists) => {
      const map = new SlotMap(loadKernels());
      const reference = new Map<number, number>();
      for (const list of lists) {
        const rows = Int32Array.from(list);
        const slots = new Int32Array(rows.length);
        map.find(rows, slots);
        expect([...slots]).toEqual(list.map((row) => reference.get(row) ?? -1));
        map.insertMissing(rows, slots);
        for (const row of list) if (!reference.has(row)) reference.set(row, reference.size);
        expect([...slots]).toEqual(list.map((row) => reference.get(row)));
      }
      expect([...map.rows]).toEqual([...reference.keys()]);
      expect(map.size).toBe(reference.size);
    }),
    { numRuns: 50 },
  );
});

test('rows at the end of the i32 range, and many that collide', () => {
  const rows = Int32Array.from({ length: 20_000 }, (_, i) => 0x7ffffffe - i * 1024);
  const map = new SlotMap(loadKernels());
  const slots = new Int32Array(rows.length).fill(-1);
  map.insertMissing(rows, slots);
  expect([...slots]).toEqual([...rows.keys()]);
  map.find(rows.subarray(19_000), slots.subarray(0, 1000));
  expect(slots[999]).toBe(19_999);
});

test('memory stays under 24 bytes a row', () => {
  const map = new SlotMap(loadKernels());
  for (let first = 0; first < 300_000; first += 1000) {
    map.insertMissing(
      Int32Array.from({ length: 1000 }, (_, i) => (first + i) * 7),
      new Int32Array(1000).fill(-1),
    );
    if (first > 5000) expect(map.sizeBytes / map.size).toBeLessThan(30);
  }
});
