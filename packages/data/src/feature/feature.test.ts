import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeNpy } from '@finetable/formats';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DataSpec, FeatureSpec } from '../spec.ts';
import { recordsOf } from '../testing/records.ts';
import { hashText, modulo } from '../xxhash64.ts';
import { withFeatures } from './build.ts';
import { compileFeature } from './feature.ts';
import { openVocabulary } from './vocabulary.ts';
import { testFolder } from '../testing/folder.ts';

const { path: folder } = testFolder();

const rows = 1000;

function bags(spec: Partial<FeatureSpec>, columns: Readonly<Record<string, readonly unknown[]>>): number[][] {
  const feature = compileFeature({ table: 't', column: 'x', ...spec }, rows, 'f');
  const { values, offsets } = feature.extract(recordsOf(columns));
  return Array.from({ length: offsets.length - 1 }, (_, i) => [...values.subarray(offsets[i], offsets[i + 1])]);
}

const rowOf = (text: string, seed = 0): number => {
  const hash = { high: 0, low: 0 };
  hashText(text, seed, hash);
  return modulo(hash, rows);
};

describe('hashes', () => {
  test('known answers: XXH64 modulo the rows', () => {
    // 0x44bc2cf5ad770999, 0xd24ec4f1a98c6e5b and 0xef46db3751d8e999.
    const expected = [0x44bc2cf5ad770999n, 0xd24ec4f1a98c6e5bn, 0xef46db3751d8e999n].map((h) => [Number(h % 1000n)]);
    expect(bags({ hash: {} }, { x: ['abc', 'a', ''] })).toEqual(expected);
  });

  test('numbers and truth values are their text; lists have a row for each; seeds differ', () => {
    expect(bags({ hash: {} }, { x: [17, '17', true, 1.5, ['a', 17], []] })).toEqual(
      [['17'], ['17'], ['true'], ['1.5'], ['a', '17'], []].map((texts) => texts.map((text) => rowOf(text))),
    );
    expect(bags({ hash: { seed: 9 } }, { x: ['a'] })).toEqual([[rowOf('a', 9)]]);
    expect(rowOf('a', 9)).not.toBe(rowOf('a'));
    expect(() => bags({ hash: {} }, { x: ['a', null] })).toThrow(
      'f, line 2, column "x": found null; allowed: a text, a number, true or false, one or a list',
    );
  });

  test('crosses have a row for each combination', () => {
    const found = bags({ hash: { crossWith: ['y', 'z'] } }, { x: ['a', ['a', 'b']], y: [1, [1, 2]], z: ['q', 'q'] });
    const texts = ['a\u001f1\u001fq', 'a\u001f2\u001fq', 'b\u001f1\u001fq', 'b\u001f2\u001fq'];
    expect(found).toEqual([[rowOf(texts[0]!)], texts.map((text) => rowOf(text))]);
    expect(() => bags({ hash: { crossWith: ['y'] } }, { x: ['a'], y: [{}] })).toThrow('column "y": found {}');
  });
});

describe('vocabularies', () => {
  const words = ['a', 'b', 'c'];
  const all = ['m', 'a', 'b', 'c', 'q', 'r'];

  test.each([
    [{}, [-1, 0, 1, 2, -1, -1]],
    [{ maskToken: 'm' }, [0, 1, 2, 3, -1, -1]],
    [{ outOfVocabulary: { rows: 1 } }, [0, 1, 2, 3, 0, 0]],
    [{ outOfVocabulary: { rows: 1, at: 'end' } }, [3, 0, 1, 2, 3, 3]],
    [{ maskToken: 'm', outOfVocabulary: { rows: 1, at: 'end' } }, [0, 1, 2, 3, 4, 4]],
    [{ unknownToken: 'b' }, [1, 0, 1, 2, 1, 1]],
    [{ outOfVocabulary: { rows: 1 }, unknown: 'drop' }, [-1, 1, 2, 3, -1, -1]],
  ] as const)('rows with %j', (options, expected) => {
    expect(all.map(openVocabulary({ vocabulary: { words }, ...options }, 5, 't').row)).toEqual(expected);
  });

  test('several rows for unknown words: by hash, or by remainder of integers', () => {
    const hash = { high: 0, low: 0 };
    const { row } = openVocabulary({ vocabulary: { words }, outOfVocabulary: { rows: 7, seed: 2 } }, 20, 't');
    for (const word of ['q', 'r', 'ärger']) {
      hashText(word, 2, hash);
      expect(row(word)).toBe(modulo(hash, 7));
    }
    const integers = openVocabulary({ vocabulary: { words: ['5'] }, outOfVocabulary: { rows: 3 } }, 20, 't', true);
    expect(['5', '6', '-1', '7'].map(integers.row)).toEqual([3, 0, 2, 1]);
  });

  test.each([
    [{ outOfVocabulary: { rows: 3 } }, 'the vocabulary: 3 words and 3 rows beside them, but table "t" has 5 rows'],
    [{ unknownToken: 'z' }, 'the vocabulary: has no "z", which is to stand for unknown words'],
  ])('refused: %j', (options, message) => {
    expect(() => openVocabulary({ vocabulary: { words }, ...options }, 5, 't')).toThrow(message);
  });

  test('a file with counts', () => {
    const file = join(folder, 'words.tsv');
    writeFileSync(file, 'the\t12\na\tb\t3\n');
    const { row } = openVocabulary({ vocabulary: file }, 5, 't');
    expect(['the', 'a\tb', 'a'].map(row)).toEqual([0, 1, -1]);
    writeFileSync(file, 'the\t12\nword\n');
    expect(() => openVocabulary({ vocabulary: file }, 5, 't')).toThrow(
      `${file}, line 2: found "word"; allowed: a word, a tab, and its count`,
    );
  });

  test('integers are read as numbers', () => {
    const lookup = { vocabulary: { words: ['7', '0'] }, integers: true };
    const text = recordsOf({ x: ['07', '-0', ' 7', '7,0'] }, 'text');
    const spec = { table: 't', column: 'x', lookup: { ...lookup, separator: ',' } };
    expect(compileFeature(spec, rows, 'f').extract(text).values).toEqual(Int32Array.of(0, 1, 0, 0, 1));
    expect(() => bags({ lookup }, { x: [2 ** 53] })).toThrow('found 9007199254740992; allowed: integers within 2^53');
    for (const bad of ['x', 1.5, true])
      expect(() => bags({ lookup }, { x: [bad] })).toThrow('allowed: integers within 2^53, one or a list');
  });
});

describe('text', () => {
  test('is cut and padded before unknown words are left out, whatever reads it', () => {
    const tokens = { vocabulary: { words: ['pad', 'a', 'b'] }, maxTokens: 3 };
    expect(bags({ tokens }, { x: ['a q b a', 'b'] })).toEqual([[1, 2], [2]]);
    expect(bags({ tokens: { ...tokens, pad: true } }, { x: ['a q b a', 'b', ''] })).toEqual([
      [1, 2, 0],
      [2, 0, 0],
      [0, 0, 0],
    ]);
    const ngrams = bags({ ngrams: { min: 1, max: 2 } }, { x: ['abc'] })[0]!;
    expect(bags({ ngrams: { min: 1, max: 2, maxTokens: 3 } }, { x: ['abc'] })).toEqual([ngrams.slice(0, 3)]);
  });
});

describe('weights', () => {
  const weightsOf = async (spec: Partial<FeatureSpec>, x: readonly unknown[], more = {}): Promise<number[]> => {
    const feature: FeatureSpec = { table: 't', column: 'x', ...spec };
    const data: Pick<DataSpec, 'features' | 'tables'> = { features: { f: feature }, tables: { t: { rows: 5 } } };
    const { features } = await withFeatures(data, more);
    const { weights } = compileFeature(features['f']!, 5, 'f').extract(recordsOf({ x }));
    return [...weights!];
  };

  test('by position, from either end', async () => {
    const bags = [[1, 2, 3], [4], []];
    expect(await weightsOf({ weighting: { type: 'position', decay: 0.5 } }, bags)).toEqual([1, 0.5, 0.25, 1]);
    expect(await weightsOf({ weighting: { type: 'position', decay: 0.5, from: 'end' } }, bags)).toEqual([
      0.25, 0.5, 1, 1,
    ]);
  });

  test('by frequency: a / (a + p), 1 for what was never found', async () => {
    const expected = [0.1 / (0.1 + 0.5), 0.1 / (0.1 + 0.3), 0.1 / (0.1 + 0.2), 1].map(Math.fround);
    const close = (found: number[]): void => found.forEach((weight, i) => expect(weight).toBeCloseTo(expected[i]!, 6));
    close(
      await weightsOf({ weighting: { type: 'sif', a: 0.1, counts: Float64Array.of(0, 5, 3, 2, 0) } }, [[1, 2, 3, 4]]),
    );
    const file = join(folder, 'counts.npy');
    await writeNpy(file, { dtype: 'I64', shape: [5], data: BigInt64Array.of(0n, 5n, 3n, 2n, 0n) });
    close(await weightsOf({ weighting: { type: 'sif', a: 0.1, counts: file } }, [[1, 2, 3, 4]]));
    const tokens = { vocabulary: { words: ['z', 'a', 'b', 'c', 'd'] } };
    const byWord = join(folder, 'counts.tsv');
    // Words that are not in the vocabulary do not count.
    writeFileSync(byWord, 'a\t5\nb\t3\nq\t90\nc\t2\n');
    close(await weightsOf({ tokens, weighting: { type: 'sif', a: 0.1, counts: byWord } }, ['a b c d']));
    const counted = { vocabulary: { ...tokens.vocabulary, counts: [0, 5, 3, 2, 0] } };
    close(await weightsOf({ tokens: counted, weighting: { type: 'sif', a: 0.1 } }, ['a b c d']));
    await writeNpy(file, { dtype: 'F32', shape: [2], data: new Float32Array(2) });
    await expect(weightsOf({ weighting: { type: 'sif', counts: file } }, [])).rejects.toThrow(
      `${file}: has shape [2]; counts of table "t" are [5]`,
    );
    await writeNpy(file, { dtype: 'F32', shape: [5], data: Float32Array.of(0, 0, -1, 0, 0) });
    await expect(weightsOf({ weighting: { type: 'sif', counts: file } }, [])).rejects.toThrow(
      `${file}: row 2 has count -1; allowed: 0 or more`,
    );
  });

  test('the more frequent, the lighter', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(1000), { minLength: 5, maxLength: 5 }),
        fc.double({ min: 1e-5, max: 1, noNaN: true }),
        (counts, a) => {
          const weighting = { type: 'sif', a, counts: Float64Array.from(counts) } as const;
          const { weights } = compileFeature({ table: 't', column: 'x', weighting }, 5, 'f').extract(
            recordsOf({ x: [[0, 1, 2, 3, 4]] }),
          );
          for (let i = 0; i < 5; i++) {
            expect(weights![i]).toBeGreaterThan(0);
            for (let j = 0; j < 5; j++)
              if (counts[i]! > counts[j]!) expect(weights![i]).toBeLessThanOrEqual(weights![j]!);
          }
        },
      ),
    );
  });
});
