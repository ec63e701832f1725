/** Vocabularies and ids are those of Keras' layers; the fixture has what these made (tools/fixtures/keras_preprocessing.py). */
import { readFileSync } from 'node:fs';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openLoader } from '../loader.ts';
import type { FeatureSpec, OutOfVocabularySpec, VocabularySpec, VocabularyWords } from '../spec.ts';
import { vocabularyOf } from './build.ts';

type Standardize = NonNullable<VocabularySpec['standardize']>;
interface TextOptions {
  readonly standardize?: Standardize | null;
  readonly split?: 'character' | null;
  readonly ngrams?: number | number[];
  readonly max_tokens?: number;
  readonly output_sequence_length?: number;
}
interface LookupOptions {
  readonly vocabulary?: (string | number)[];
  readonly max_tokens?: number;
  readonly num_oov_indices?: number;
  readonly mask_token?: string | number;
  readonly oov_token?: string;
}
interface Fixture {
  readonly texts: string[];
  readonly textVectorization: { options: TextOptions; vocabulary: string[]; inputs: string[]; ids: number[][] }[];
  readonly lookups: {
    layer: 'StringLookup' | 'IntegerLookup';
    options: LookupOptions;
    data: (string | number)[] | null;
    vocabulary: (string | number)[];
    inputs: (string | number)[];
    ids: number[];
  }[];
}

const fixture = JSON.parse(
  readFileSync(new URL('../../test/keras-preprocessing.json', import.meta.url), 'utf8'),
) as Fixture;

const table = { rows: 1000 };

/** The feature with what was found in `data`. */
async function adapt(feature: FeatureSpec, data: readonly (string | number)[]): Promise<FeatureSpec> {
  const source = { rows: data.map((x) => ({ x })) };
  const loader = await openLoader(
    { source, features: { x: feature }, labels: {}, tables: { t: table } },
    { batchSize: 8, workers: 0 },
  );
  await loader.close();
  return loader.data.features['x']!;
}

async function idsOf(feature: FeatureSpec, inputs: readonly (string | number)[]): Promise<number[][]> {
  const source = { rows: inputs.map((x) => ({ x })) };
  const loader = await openLoader(
    { source, features: { x: feature }, labels: {}, tables: { t: table } },
    { batchSize: inputs.length, workers: 0 },
  );
  const { value: batch } = await loader.batches(0).next();
  await loader.close();
  const { offsets, placeRows } = batch!.plans['t']!;
  return inputs.map((_, i) => [...placeRows.subarray(offsets[i], offsets[i + 1])]);
}

const oneUnknown: OutOfVocabularySpec = { rows: 1, token: '[UNK]' };

test.each(fixture.textVectorization.map((item) => [JSON.stringify(item.options), item] as const))(
  'TextVectorization %s',
  async (_, { options, vocabulary, inputs, ids }) => {
    const { standardize = 'lower_and_strip_punctuation', split = 'whitespace' } = options;
    const { ngrams, max_tokens: maxTokens, output_sequence_length: length } = options;
    const tokens: VocabularySpec = {
      vocabulary: { maxWords: maxTokens && maxTokens - 2 },
      maskToken: '',
      outOfVocabulary: oneUnknown,
      standardize: standardize ?? 'none',
      split: split ?? 'none',
      ngrams,
      maxTokens: length,
      pad: length !== undefined,
    };
    const adapted = await adapt({ table: 't', column: 'x', tokens }, fixture.texts);
    const { words } = vocabularyOf(adapted)!.vocabulary as VocabularyWords;
    expect(['', '[UNK]', ...words]).toEqual(vocabulary);
    const found = await idsOf(adapted, inputs);
    // Without a length Keras pads up to the longest of the batch, and an empty bag needs no padding.
    const width = Math.max(...ids.map((row) => row.length));
    const padded =
      length === undefined ? found.map((row) => [...row, ...new Array<number>(width - row.length).fill(0)]) : found;
    expect(padded).toEqual(ids);

    // The file that Keras saves beside a model, special tokens and all, reads as it is.
    const folder = mkdtempSync(join(tmpdir(), 'finetable-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'vocabulary.txt');
    if (vocabulary.some((word) => /[\r\n]/.test(word))) return;
    writeFileSync(file, vocabulary.join('\n'));
    expect(await idsOf({ table: 't', column: 'x', tokens: { ...tokens, vocabulary: file } }, inputs)).toEqual(found);
  },
);

test.each(fixture.lookups.map((item) => [`${item.layer} ${JSON.stringify(item.options)}`, item] as const))(
  '%s',
  async (_, { layer, options, data, vocabulary, inputs, ids }) => {
    const integers = layer === 'IntegerLookup';
    const { mask_token: mask, max_tokens: maxTokens, num_oov_indices: unknownRows = 1 } = options;
    const token = options.oov_token ?? (integers ? '-1' : '[UNK]');
    const specials = unknownRows + (mask === undefined ? 0 : 1);
    const feature: FeatureSpec = {
      table: 't',
      column: 'x',
      lookup: {
        vocabulary: options.vocabulary
          ? { words: options.vocabulary.map(String) }
          : { maxWords: maxTokens && maxTokens - specials },
        integers,
        maskToken: mask === undefined ? undefined : String(mask),
        ...(unknownRows > 0 ? { outOfVocabulary: { rows: unknownRows, token } } : { unknown: 'error' }),
      },
    };
    const adapted = await adapt(feature, data ?? inputs);
    const { words } = vocabularyOf(adapted)!.vocabulary as VocabularyWords;
    expect(words).toEqual(vocabulary.slice(specials).map(String));
    expect(await idsOf(adapted, inputs)).toEqual(ids.map((id) => [id]));
  },
);

test('without rows for unknown values they are an error, as with num_oov_indices=0', async () => {
  const lookup = { vocabulary: { words: ['a'] }, unknown: 'error' } as const;
  await expect(idsOf({ table: 't', column: 'x', lookup }, ['a', 'q'])).rejects.toThrow(
    'rows, row 2, column "x": token "q" is not in the vocabulary; add it, or leave such tokens out with unknown: "drop"',
  );
});
