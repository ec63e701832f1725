import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { permutation, philox, RandomStream } from './random.ts';

function hex(counter: readonly number[], key: readonly number[]): string[] {
  const out = new Uint32Array(4);
  philox(counter[0]!, counter[1]!, counter[2]!, counter[3]!, key[0]!, key[1]!, out);
  return [...out].map((word) => word.toString(16).padStart(8, '0'));
}

describe('philox', () => {
  it('gives the known answers of Random123', () => {
    expect(hex([0, 0, 0, 0], [0, 0])).toEqual(['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']);
    const ones = 0xffffffff;
    expect(hex([ones, ones, ones, ones], [ones, ones])).toEqual(['408f276d', '41c83b0e', 'a20bc7c6', '6d5451fd']);
    const pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
    expect(hex(pi, [0xa4093822, 0x299f31d0])).toEqual(['d16cfe09', '94fdcceb', '5001e420', '24126ea1']);
  });

  it('agrees with 64-bit arithmetic on any counter and key', () => {
    const word = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(fc.tuple(word, word, word, word), fc.tuple(word, word), (counter, key) => {
        expect(hex(counter, key)).toEqual(naivePhilox(counter, key));
      }),
    );
  });
});

function naivePhilox(counter: readonly number[], key: readonly number[]): string[] {
  const low = 0xffffffffn;
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & low, (p0 >> 32n) ^ c3 ^ k1, p0 & low];
    k0 = (k0 + 0x9e3779b9n) & low;
    k1 = (k1 + 0xbb67ae85n) & low;
  }
  return [c0, c1, c2, c3].map((word) => word.toString(16).padStart(8, '0'));
}

const uint32s = (random: RandomStream, start: number, count: number) =>
  Array.from({ length: count }, (_, i) => random.uint32(start + i));

describe('RandomStream', () => {
  it('keeps its numbers from release to release', () => {
    expect(uint32s(new RandomStream(7, 'words/B'), 0, 5)).toMatchInlineSnapshot(`
      [
        2881815638,
        5678673,
        1153658771,
        3239486551,
        2498880104,
      ]
    `);
    const normals = new Float32Array(4);
    new RandomStream(7, 'words/B').fillNormal(normals);
    expect([...normals]).toMatchInlineSnapshot(`
      [
        0.44260698556900024,
        -3.0063159465789795,
        -0.6170310974121094,
        0.6879305839538574,
      ]
    `);
  });

  it('makes any part of a stream as the whole has it', () => {
    const whole = { uniform: new Float32Array(300), normal: new Float32Array(300) };
    new RandomStream(3, 's').fillUniform(whole.uniform, -2, 5);
    new RandomStream(3, 's').fillNormal(whole.normal, 0.5);
    const random = new RandomStream(3, 's');
    fc.assert(
      fc.property(fc.nat(299), fc.nat(40), (start, length) => {
        const part = new Float32Array(Math.min(length, 300 - start));
        random.fillUniform(part, -2, 5, start);
        expect(part).toEqual(whole.uniform.subarray(start, start + part.length));
        random.fillNormal(part, 0.5, start);
        expect(part).toEqual(whole.normal.subarray(start, start + part.length));
      }),
    );
  });

  it('writes inside a view only', () => {
    const data = new Float32Array(12).fill(9);
    new RandomStream(1, 's').fillUniform(data.subarray(3, 8));
    expect([...data.subarray(0, 3), ...data.subarray(8)]).toEqual(new Array(7).fill(9));
    expect(data.subarray(3, 8).every((value) => value < 1)).toBe(true);
  });

  it('has another stream for another seed or name, and its own for indices beyond 2^34', () => {
    const seeds = [0, 1, 2 ** 32, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER];
    const starts = [0, 4, 2 ** 34, 2 ** 34 + 4, 2 ** 52, Number.MAX_SAFE_INTEGER - 3];
    const names = ['', 'a', 'b', 'ab', 'ba', 'shuffle/1', 'shuffle/2'];
    const seen = new Set<string>();
    for (const seed of seeds) {
      for (const name of names)
        for (const start of starts) seen.add(uint32s(new RandomStream(seed, name), start, 4).join());
    }
    expect(seen.size).toBe(seeds.length * starts.length * names.length);
  });

  it('gives the same number for an index whatever was asked before', () => {
    const random = new RandomStream(5, 'order');
    const forward = uint32s(random, 0, 64);
    for (const i of permutation(64, 1, 'p')) expect(random.uint32(i)).toBe(forward[i]);
    expect(random.uint32(2 ** 34 + 1)).toBe(new RandomStream(5, 'order').uint32(2 ** 34 + 1));
  });

  it('stays within bounds, down to 1 and up to 2^32', () => {
    const random = new RandomStream(11, 'below');
    for (let i = 0; i < 1000; i++) {
      expect(random.below(i, 1)).toBe(0);
      expect(random.below(i, 2 ** 32)).toBe(random.uint32(i));
      for (const bound of [2, 3, 1000, 2 ** 31, 2 ** 32 - 1]) {
        expect(random.below(i, bound)).toBe(Number((BigInt(random.uint32(i)) * BigInt(bound)) >> 32n));
      }
    }
  });

  it('spreads `below` evenly', () => {
    const counts = new Array<number>(7).fill(0);
    const random = new RandomStream(2, 'even');
    for (let i = 0; i < 70_000; i++) counts[random.below(i, 7)]!++;
    // Binomial deviation sqrt(70000 / 7 * 6 / 7) = 93; the seed is fixed, so five of them never fail by chance.
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(5 * 93);
  });

  it('has uniform values in [low, high) with the moments of that interval', () => {
    const values = new Float32Array(200_000);
    new RandomStream(1, 'u').fillUniform(values);
    const { mean, variance } = moments(values);
    // Standard errors of mean and variance at n = 200,000: 0.00065 and 0.00017.
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.0026);
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(0.0007);
    expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
    new RandomStream(1, 'u').fillUniform(values, -3, -2);
    expect(values.every((value) => value >= -3 && value <= -2)).toBe(true);
  });

  it('has normal values: moments, tails and independence of neighbours', () => {
    const values = new Float32Array(400_000);
    new RandomStream(1, 'n').fillNormal(values, 2);
    const { mean, variance } = moments(values);
    // Standard errors at n = 400,000: 0.0032 of the mean, 0.009 of the variance.
    expect(Math.abs(mean)).toBeLessThan(0.013);
    expect(Math.abs(variance - 4)).toBeLessThan(0.036);
    const beyond = (deviations: number) =>
      values.filter((value) => Math.abs(value) > 2 * deviations).length / values.length;
    for (const [deviations, share] of [
      [0.5, 0.61708],
      [1, 0.31731],
      [2, 0.0455],
      [3, 0.0027],
    ] as const) {
      expect(Math.abs(beyond(deviations) - share)).toBeLessThan(4 * Math.sqrt((share * (1 - share)) / values.length));
    }
    for (const lag of [1, 2, 3, 4]) {
      let product = 0;
      for (let i = lag; i < values.length; i++) product += (values[i]! / 2) * (values[i - lag]! / 2);
      expect(Math.abs(product / values.length)).toBeLessThan(4 / Math.sqrt(values.length));
    }
  });

  it('has the normal quantile of its integers', () => {
    const random = new RandomStream(4, 'quantile');
    const values = new Float32Array(2000);
    random.fillNormal(values);
    values.forEach((value, i) => {
      const expected = (random.uint32(i) + 0.5) / 2 ** 32;
      // AS 241 errs by 1.2e-7 of x at most, f32 rounding by 0.6e-7; Mills' ratio turns that into a share of the tail.
      const allowed = 1.8e-7 * (value * value + 1) * Math.min(expected, 1 - expected);
      expect(Math.abs(normalDistribution(value) - expected)).toBeLessThan(allowed);
    });
  });

  it('refuses what would give NaN or numbers used twice', () => {
    const random = new RandomStream(1, 's');
    const bad = expect.objectContaining({ code: 'INVALID_ARGUMENT' });
    for (const value of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
      expect(() => new RandomStream(value, 's')).toThrow(bad);
      expect(() => random.uint32(value)).toThrow(bad);
      expect(() => random.fillUniform(new Float32Array(1), 0, 1, value)).toThrow(bad);
      expect(() => random.fillNormal(new Float32Array(1), 1, value)).toThrow(bad);
      expect(() => permutation(value, 1, 's')).toThrow(bad);
    }
    for (const bound of [0, -1, 1.5, NaN, 2 ** 32 + 1]) expect(() => random.below(0, bound)).toThrow(bad);
  });
});

describe('permutation', () => {
  it('holds every number once, the same for the same seed and stream only', () => {
    for (const n of [0, 1, 2, 5, 1000]) {
      const order = permutation(n, 9, 'shuffle/0');
      expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
      expect(permutation(n, 9, 'shuffle/0')).toEqual(order);
    }
    expect(permutation(1000, 9, 'shuffle/1')).not.toEqual(permutation(1000, 9, 'shuffle/0'));
    expect(permutation(1000, 8, 'shuffle/0')).not.toEqual(permutation(1000, 9, 'shuffle/0'));
  });

  it('makes each of the orders of 4 equally often', () => {
    const counts = new Map<string, number>();
    for (let seed = 0; seed < 12_000; seed++) {
      const key = permutation(4, seed, 'orders').join();
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    for (const count of counts.values()) expect(Math.abs(count - 500)).toBeLessThan(5 * Math.sqrt(500));
  });
});

function moments(values: Float32Array): { mean: number; variance: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, variance: values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length };
}

/** Φ(x): the Taylor series of erf near 0, Laplace's continued fraction in the tails. */
function normalDistribution(x: number): number {
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  if (Math.abs(x) < 3) {
    let term = x;
    let sum = x;
    for (let k = 3; k < 120; k += 2) sum += term *= (x * x) / k;
    return 0.5 + density * sum;
  }
  let fraction = Math.abs(x);
  for (let k = 200; k > 0; k--) fraction = Math.abs(x) + k / fraction;
  return x > 0 ? 1 - density / fraction : density / fraction;
}
