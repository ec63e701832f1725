/** Slot tables, on both implementations: they must agree entry by entry, since a table may be used by either. */
import fc from 'fast-check';
import { expect } from 'vitest';
import { testBoth } from './testing/implementations.ts';

testBoth('rows get slots in order and keep them, like a Map', (kernels) => {
  const lists = fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 0x7ffffffe }), { maxLength: 60 }), { maxLength: 8 });
  fc.assert(
    fc.property(lists, (all) => {
      const table = new Int32Array(2 * 512).fill(-1);
      const reference = new Map<number, number>();
      for (const list of all) {
        const rows = Int32Array.from(list);
        const slots = new Int32Array(rows.length);
        kernels.findSlots(table, rows, slots);
        expect([...slots]).toEqual(list.map((row) => reference.get(row) ?? -1));
        const before = reference.size;
        for (const row of list) if (!reference.has(row)) reference.set(row, reference.size);
        expect(kernels.insertSlots(table, rows, slots, before)).toBe(reference.size - before);
        expect([...slots]).toEqual(list.map((row) => reference.get(row)));
      }
    }),
    { numRuns: 60 },
  );
});

testBoth('a full table finds what it holds, misses the rest, and refuses more', (kernels) => {
  for (const entries of [1, 2, 64]) {
    const table = new Int32Array(2 * entries).fill(-1);
    const rows = Int32Array.from({ length: entries }, (_, i) => i * 64);
    const slots = new Int32Array(entries).fill(-1);
    expect(kernels.insertSlots(table, rows, slots, 5)).toBe(entries);
    const found = new Int32Array(2);
    kernels.findSlots(table, Int32Array.of(0, 1), found);
    expect([...found]).toEqual([5, -1]);
    expect(() => kernels.insertSlots(table, Int32Array.of(1), Int32Array.of(-1), 9)).toThrow(
      `insertSlots: table is full: it holds ${entries} rows`,
    );
  }
});

testBoth('what is no table, and rows that cannot be, are refused', (kernels) => {
  const none = new Int32Array(0);
  for (const length of [0, 1, 3, 6]) {
    expect(() => kernels.findSlots(new Int32Array(length), none, none)).toThrow(/findSlots: table must have 2, 4, 8/);
  }
  const table = new Int32Array(8).fill(-1);
  expect(() => kernels.findSlots(table, Int32Array.of(-1), new Int32Array(1))).toThrow(/rows must be in \[0, /);
  expect(() => kernels.findSlots(table, Int32Array.of(1), none)).toThrow(/out must have 1 values, found 0/);
});
