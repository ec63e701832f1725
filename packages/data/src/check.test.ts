import { describe, expect, test } from 'vitest';
import { checkData } from './check.ts';
import { planLoader } from './plan.ts';
import type { DataSpec, FeatureSpec, LoaderOptions, TokenSpec } from './spec.ts';

const data = (feature: Partial<FeatureSpec> = {}, more: Partial<DataSpec> = {}): DataSpec => ({
  source: { file: 'a.jsonl' },
  features: { f: { table: 't', column: 'c', ...feature } },
  labels: {},
  tables: { t: { rows: 10 } },
  ...more,
});

test('what is right passes', () => {
  checkData(data({ ngrams: {} }));
  checkData(data({ tokens: { vocabulary: 'v' }, pooling: 'sqrtn' }, { source: { file: 'data', format: 'csv' } }));
  checkData(data({ tokens: { tokenizer: 't.json', maxTokens: 1, unknown: 'keep' } }));
  checkData(data({ weights: 'w' }, { labels: { y: { column: 'c', classes: ['a', 'b'] } } }));
});

describe('refused, with the path', () => {
  test.each([
    [data({ table: 'u' }), 'features.f.table: found "u"; allowed: "t"'],
    [data({ table: 'constructor' }), 'features.f.table: found "constructor"; allowed: "t"'],
    [data({ pooling: 'max' as 'sum' }), 'features.f.pooling: found "max"; allowed: "sum", "mean", "sqrtn"'],
    [
      data({ tokens: { vocabulary: 'v' }, ngrams: {} }),
      'features.f: found "tokens and ngrams"; allowed: one of the two',
    ],
    [data({ ngrams: {}, weights: 'w' }), 'features.f.weights: found "w"; allowed: only for integer ids'],
    [data({ ngrams: { min: 0 } }), 'features.f.ngrams.min: found 0; allowed: integers from 1'],
    [data({ ngrams: { min: 6 } }), 'features.f.ngrams.max: found 5; allowed: integers from 6'],
    [data({ ngrams: { seed: -1 } }), 'features.f.ngrams.seed: found -1; allowed: integers from 0 to 4294967295'],
    [
      data({ tokens: { vocabulary: 'v', pattern: '(' } }),
      'features.f.tokens.pattern: found "("; allowed: a JavaScript regular expression',
    ],
    [
      data({ tokens: { vocabulary: 'v', unknown: 'keep' as 'drop' } }),
      'features.f.tokens.unknown: found "keep"; allowed: "drop", "error"',
    ],
    [data({ tokens: {} as TokenSpec }), 'features.f.tokens: found "neither"; allowed: vocabulary or tokenizer'],
    [
      data({ tokens: { vocabulary: 'v', tokenizer: 't' } as unknown as TokenSpec }),
      'features.f.tokens: found "both"; allowed: vocabulary or tokenizer',
    ],
    [
      data({ tokens: { tokenizer: 't', lowercase: false } as TokenSpec }),
      'features.f.tokens.lowercase: found false; allowed: only with a vocabulary',
    ],
    [
      data({ tokens: { tokenizer: 't', unknown: 'skip' as 'drop' } }),
      'features.f.tokens.unknown: found "skip"; allowed: "drop", "keep", "error"',
    ],
    [
      data({ tokens: { tokenizer: 't', maxTokens: 0 } }),
      'features.f.tokens.maxTokens: found 0; allowed: integers from 1',
    ],
    [data({ lookup: { vocabulary: {} }, hash: {} }), 'features.f: found "lookup and hash"; allowed: one of the two'],
    [data({ hash: { seed: -1 } }), 'features.f.hash.seed: found -1; allowed: integers from 0'],
    [
      data({ lookup: { vocabulary: {}, outOfVocabulary: { rows: 10 } } }),
      `features.f.lookup: found "10 rows that are no word's"; allowed: less than the table's 10 rows`,
    ],
    [data({ lookup: { vocabulary: { minCount: 0 } } }), 'features.f.lookup.vocabulary.minCount: found 0'],
    [
      data({ lookup: { vocabulary: { words: ['a', 'a'] } } }),
      'features.f.lookup.vocabulary.words: found ["a","a"]; allowed: each word once',
    ],
    [
      data({ tokens: { vocabulary: 'v', pattern: 'x', split: 'whitespace' } }),
      'features.f.tokens.pattern: found "x"; allowed: none beside split',
    ],
    [
      data({ tokens: { vocabulary: 'v', standardize: 'lower', lowercase: true } }),
      'features.f.tokens.lowercase: found true; allowed: none beside standardize',
    ],
    [
      data({ tokens: { vocabulary: 'v', pad: true } }),
      'features.f.tokens.pad: found true; allowed: only with maxTokens',
    ],
    [
      data({ tokens: { vocabulary: 'v', ngrams: [2, 0] } }),
      'features.f.tokens.ngrams: found 0; allowed: integers from 1',
    ],
    [
      data({ weights: 'w', weighting: { type: 'sif' } }),
      'features.f.weighting: found {"type":"sif"}; allowed: none beside a column of weights',
    ],
    [data({ weighting: { type: 'sif', a: 0 } }), 'features.f.weighting.a: found 0; allowed: numbers above 0'],
    [
      data({ weighting: { type: 'sif', counts: 'a.tsv' } }),
      'features.f.weighting.counts: found "a.tsv"; allowed: .tsv by word only with a vocabulary',
    ],
    [
      data({ weighting: { type: 'position', decay: 0 } }),
      'features.f.weighting.decay: found 0; allowed: numbers above 0, up to 1',
    ],
    [data({}, { labels: { y: { column: 'c', type: 'date' as 'class' } } }), 'labels.y.type: found "date"'],
    [
      data({}, { labels: { y: { column: 'c', classes: ['a'], default: 'b' } } }),
      'labels.y.default: found "b"; allowed: one of the classes',
    ],
    [
      data({}, { labels: { y: { column: 'c', type: 'number', default: 'b' } } }),
      'labels.y.default: found "b"; allowed: a number',
    ],
    [
      data({}, { numbers: { n: { column: ['a', 'a'] } } }),
      'numbers.n.column: found ["a","a"]; allowed: a name, or a list of names, each once',
    ],
    [
      data({}, { numbers: { n: { column: 'a', default: 'mean' } } }),
      'numbers.n.default: found "mean"; allowed: "mean" only together with normalize',
    ],
    [
      data({}, { numbers: { n: { column: 'a', normalize: { mean: [1, 2], deviation: [1] } } } }),
      'numbers.n.normalize.mean: found [1,2]; allowed: 1 numbers, one for each column',
    ],
    [
      data({}, { numbers: { n: { column: 'a', normalize: { mean: [1], deviation: [-1] } } } }),
      'numbers.n.normalize.deviation[0]: found -1; allowed: numbers from 0',
    ],
    [data({}, { badRows: 'skip' as 'error' }), 'badRows: found "skip"; allowed: "error"'],
    [data({}, { badRows: { skip: -1 } }), 'badRows.skip: found -1; allowed: integers from 0'],
    [data({}, { tables: { t: { rows: 0 } } }), 'tables.t.rows: found 0; allowed: integers from 1 to 2147483647'],
    [
      data({}, { labels: { y: { column: 'c', classes: [] } } }),
      'labels.y.classes: found []; allowed: at least one class',
    ],
    [
      data({}, { labels: { y: { column: 'c', classes: ['a', 'a'] } } }),
      'labels.y.classes: found "a"; allowed: each class once',
    ],
    [
      data({}, { source: { file: 'a.txt' } }),
      'a.txt: the ending does not tell the format; allowed: .jsonl, .ndjson, .csv, .tsv, .parquet, .arrow, .arrows, .feather (and with .gz or .zst behind), or format "jsonl", "csv", "tsv"',
    ],
    [data({}, { source: { file: 'a.csv', format: 'xml' as 'csv' } }), 'a.csv: unknown format "xml"'],
  ])('%#', (spec, message) => {
    expect(() => checkData(spec)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) as string }),
    );
  });

  test.each([
    [{ batchSize: 0 }, 'batchSize: found 0; allowed: integers from 1 to 2147483647'],
    [{ batchSize: 1.5 }, 'batchSize: found 1.5'],
    [{ batchSize: 1, workers: -1 }, 'workers: found -1; allowed: integers from 0 to 1024'],
    [{ batchSize: 1, prefetchBatches: 0 }, 'prefetchBatches: found 0'],
    [{ batchSize: 1, seed: -1 }, 'seed: found -1; allowed: integers from 0'],
  ])('%j', (options: LoaderOptions, message) => {
    expect(() => planLoader(options)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) as string }),
    );
  });
});

test('two tasks per worker fit the prefetch', () => {
  const plan = (options: LoaderOptions) => {
    const { prefetchBatches, taskBatches } = planLoader(options);
    return [prefetchBatches, taskBatches];
  };
  expect(plan({ batchSize: 256 })).toEqual([32, 16]);
  expect(plan({ batchSize: 256, workers: 8 })).toEqual([256, 16]);
  expect(plan({ batchSize: 4096, workers: 2 })).toEqual([16, 1]);
  expect(plan({ batchSize: 1 })).toEqual([32, 16]);
  expect(plan({ batchSize: 1, workers: 2, prefetchBatches: 12 })).toEqual([12, 3]);
  expect(plan({ batchSize: 1, workers: 2, prefetchBatches: 1 })).toEqual([1, 1]);
  expect(plan({ batchSize: 256, workers: 0 })).toEqual([1, 1]);
});
