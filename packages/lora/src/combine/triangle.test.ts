import { RandomStream } from '@finetable/core';
import { expect, test } from 'vitest';
import { Triangle } from './triangle.ts';

// 256 rows are a block.
test.for([
  [1, 4],
  [3, 5],
  [255, 3],
  [256, 3],
  [257, 3],
  [1000, 6],
])('RᵀR = AᵀA for [%i, %i], asked for in the middle too', ([rows, cols]) => {
  const values = new Float32Array(rows! * cols!);
  new RandomStream(rows!, 'A').fillNormal(values);
  for (let i = 0; i < rows!; i++) values[i * cols! + cols! - 1] = values[i * cols!]!; // rank deficient
  const triangle = new Triangle(cols!);
  const gram = new Float64Array(cols! * cols!);
  for (let i = 0; i < rows!; i++) {
    const row = Float64Array.from(values.subarray(i * cols!, (i + 1) * cols!));
    triangle.add(row);
    for (let j = 0; j < cols!; j++) {
      for (let k = 0; k < cols!; k++) gram[j * cols! + k]! += row[j]! * row[k]!;
    }
    if (i === 100) triangle.factor();
  }
  const r = triangle.factor();
  for (let j = 0; j < cols!; j++) {
    for (let k = 0; k < cols!; k++) {
      let dot = 0;
      for (let i = 0; i < cols!; i++) dot += r[i * cols! + j]! * r[i * cols! + k]!;
      expect(Math.abs(dot - gram[j * cols! + k]!)).toBeLessThan(1e-12 * rows!);
      if (k < j) expect(r[j * cols! + k]).toBe(0);
    }
  }
});

test('a row that is tiny beside those before it cancels nothing', () => {
  const triangle = new Triangle(2);
  triangle.add(Float64Array.of(1, 2));
  triangle.factor();
  triangle.add(Float64Array.of(1e-9, 1));
  const r = triangle.factor().map(Math.abs);
  expect(r[0]).toBeCloseTo(1, 14);
  expect(r[1]).toBeCloseTo(2, 8);
  expect(r[3]).toBeCloseTo(1, 8);
});

test('no rows give zeros', () => {
  expect(new Triangle(2).factor()).toEqual(new Float64Array(4));
});
