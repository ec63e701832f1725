import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { NgramSpec } from '../spec.ts';
import { recordsOf } from '../testing/records.ts';
import { compileFeature } from './feature.ts';
import { countNgrams } from './ngrams.ts';

/** The definition in the comment of ngrams.ts, with exact integers of any size. */
function rowOf(ngram: string, seed: number, rows: number): number {
  const mod = 2n ** 32n;
  let h = 2166136261n ^ ((BigInt(seed) * 2654435769n) % mod);
  for (let i = 0; i < ngram.length; i++) h = ((h ^ BigInt(ngram.charCodeAt(i))) * 16777619n) % mod;
  h ^= h >> 16n;
  h = (h * 0x85ebca6bn) % mod;
  h ^= h >> 13n;
  h = (h * 0xc2b2ae35n) % mod;
  h ^= h >> 16n;
  return Number((h * BigInt(rows)) / mod);
}

function extract(texts: readonly unknown[], ngrams: NgramSpec, rows: number) {
  const feature = compileFeature({ table: 't', column: 'text', ngrams }, rows, 'f');
  return feature.extract(recordsOf({ text: texts }));
}

test('known answers', () => {
  const one = (text: string) => [...extract([text], { min: text.length, max: text.length }, 1_000_000).values];
  expect([one('abc'), one('été'), one('a')]).toEqual([[112445], [760813], [103526]]);
});

test('ids are those of the definition, by start and then length', () => {
  const seeds = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const tables = fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 2 ** 21 - 2, max: 2 ** 31 - 1 }));
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: 'grapheme' })),
      fc.integer({ min: 1, max: 4 }),
      fc.nat(3),
      seeds,
      tables,
      (texts, min, more, seed, rows) => {
        const max = min + more;
        const bags = texts.map((text) => {
          const ids: number[] = [];
          for (let i = 0; i < text.length; i++) {
            for (let n = min; n <= max && i + n <= text.length; n++) ids.push(rowOf(text.slice(i, i + n), seed, rows));
          }
          return ids;
        });
        const { values, offsets } = extract(texts, { min, max, seed }, rows);
        expect(texts.map((_, i) => [...values.subarray(offsets[i], offsets[i + 1])])).toEqual(bags);
        expect(texts.map((text) => countNgrams(text.length, min, max))).toEqual(bags.map((bag) => bag.length));
      },
    ),
  );
});

test('rows are spread evenly, also for texts that differ in the last letter only', () => {
  const rows = 16;
  const texts = Array.from({ length: 4096 }, (_, i) => `item ${String.fromCharCode(0x4e00 + i)}`);
  const counts = new Array<number>(rows).fill(0);
  for (const id of extract(texts, { min: 6, max: 6 }, rows).values) counts[id]!++;
  // Chi-squared with 15 degrees of freedom: above 50 with probability 1e-5. The input is fixed, so this is no chance test.
  expect(counts.reduce((sum, count) => sum + (count - 256) ** 2 / 256, 0)).toBeLessThan(50);
});

test('lower case, empty texts, and what is not text', () => {
  expect(extract(['ABCD'], { lowercase: true }, 99)).toEqual(extract(['abcd'], {}, 99));
  expect(extract(['', 'ab'], {}, 99)).toEqual({ values: new Int32Array(0), offsets: new Int32Array(3) });
  expect(() => extract(['a', 7], {}, 99)).toThrow('f, line 2, column "text": found 7; allowed: text');
});
