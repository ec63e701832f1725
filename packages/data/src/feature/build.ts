/** Vocabularies out of the data, and how often ids are found. */
import { FinetableError } from '@finetable/core';
import { readNpy } from '@finetable/formats';
import { isBadValue } from '../errors.ts';
import { compareCodePoints } from '../label.ts';
import type { Records } from '../source/source.ts';
import { textOf } from '../source/text-value.ts';
import type { DataSpec, FeatureSpec, VocabularyBuild, VocabularyOptions, VocabularyWords } from '../spec.ts';
import type { Gatherer } from '../survey.ts';
import { compileFeature, type FeatureExtractor } from './feature.ts';
import { keyReader } from './lookup.ts';
import { invalidVocabulary, isBuild, layoutOf, openVocabulary, wordsOf } from './vocabulary.ts';
import { wordSplitter } from './words.ts';

type Counts<K> = Map<K, number>;
type Found = Pick<DataSpec, 'features' | 'tables'>;

/** The vocabulary of a feature, where it has one. */
export function vocabularyOf({ tokens, lookup }: FeatureSpec): VocabularyOptions | null {
  return lookup ?? (tokens?.vocabulary === undefined ? null : tokens);
}

export function withVocabulary(spec: FeatureSpec, vocabulary: string | VocabularyWords): FeatureSpec {
  if (spec.lookup) return { ...spec, lookup: { ...spec.lookup, vocabulary } };
  return { ...spec, tokens: { ...(spec.tokens as VocabularyOptions), vocabulary } };
}

/** Whether weights need counts that nothing but the data has. */
function needsCounts(spec: FeatureSpec): boolean {
  if (spec.weighting?.type !== 'sif' || spec.weighting.counts !== undefined) return false;
  const vocabulary = vocabularyOf(spec)?.vocabulary;
  if (vocabulary === undefined) return true;
  return typeof vocabulary === 'string' ? !/\.tsv$/i.test(vocabulary) : !isBuild(vocabulary) && !vocabulary.counts;
}

/** Words of the vocabularies that are to be built; ids of the features that need their counts. */
export function* featureGatherers({
  features,
  tables,
}: Found): Iterable<[string, Gatherer<Counts<string>> | Gatherer<Counts<number>>]> {
  for (const [name, spec] of Object.entries(features)) {
    const options = vocabularyOf(spec);
    if (options && isBuild(options.vocabulary)) yield [`vocabulary/${name}`, wordCounter(spec)];
    else if (needsCounts(spec)) yield [`counts/${name}`, idCounter(spec, tables[spec.table]!.rows, name)];
  }
}

/** The most that a Map of V8 holds. */
const mostDistinct = 2 ** 24 - 1;

function count<K>(counts: Counts<K>, key: K, times: number, column: string): void {
  const before = counts.get(key);
  if (before === undefined && counts.size === mostDistinct) {
    throw new FinetableError(
      'DOES_NOT_FIT',
      `column ${JSON.stringify(column)} has more than ${mostDistinct} different values, too many to count; hash them into rows instead`,
      { column },
    );
  }
  counts.set(key, (before ?? 0) + times);
}

function counter<K>(spec: FeatureSpec, add: Gatherer<Counts<K>>['add']): Gatherer<Counts<K>> {
  const { column } = spec;
  return {
    columns: [column, ...(spec.hash?.crossWith ?? [])],
    start: () => new Map(),
    add,
    combine: (counts, later) => {
      for (const [key, times] of later) count(counts, key, times, column);
    },
  };
}

function wordCounter(spec: FeatureSpec): Gatherer<Counts<string>> {
  const { column, lookup, tokens } = spec;
  const split = lookup || tokens?.tokenizer !== undefined ? null : wordSplitter(tokens!);
  const keys = lookup && keyReader(column, lookup);
  const read = (records: Records, i: number): readonly string[] => {
    try {
      return split ? split(textOf(records, i, column)) : keys!(records, i);
    } catch (error) {
      if (spec.default === undefined || !isBadValue(error)) throw error;
      return [];
    }
  };
  return counter<string>(spec, (counts, records) => {
    for (let i = 0; i < records.lines.length; i++) for (const word of read(records, i)) count(counts, word, 1, column);
  });
}

function idCounter(spec: FeatureSpec, rows: number, name: string): Gatherer<Counts<number>> {
  // Compiled where it is used: only workers read the vocabulary.
  let extractor: FeatureExtractor | null = null;
  const unweighted = { ...spec, weighting: undefined };
  return counter<number>(spec, (counts, records) => {
    extractor ??= compileFeature(unweighted, rows, name);
    for (const id of extractor.extract(records).values) count(counts, id, 1, spec.column);
  });
}

/** Built vocabularies, and the counts of weights, in the place of what was to be found. */
export async function withFeatures<T extends Found>(data: T, states: Readonly<Record<string, unknown>>): Promise<T> {
  const features: [string, FeatureSpec][] = [];
  for (const [name, spec] of Object.entries(data.features)) {
    const words = states[`vocabulary/${name}`] as Counts<string> | undefined;
    const ids = states[`counts/${name}`] as Counts<number> | undefined;
    const rows = data.tables[spec.table]!.rows;
    const built = words ? withVocabulary(spec, chooseWords(words, spec, rows)) : spec;
    const counts = await countsOf(built, rows, words, ids);
    features.push([name, counts ? { ...built, weighting: { ...built.weighting, type: 'sif', counts } } : built]);
  }
  return { ...data, features: Object.fromEntries(features) };
}

function chooseWords(counts: Counts<string>, spec: FeatureSpec, rows: number): VocabularyWords {
  const options = vocabularyOf(spec)!;
  const { minCount = 1, maxWords = Infinity } = options.vocabulary as VocabularyBuild;
  const room = Math.min(maxWords, rows - layoutOf(options, 0).specials);
  const none = new Set([options.maskToken, options.outOfVocabulary?.token]);
  const compare = spec.lookup?.integers ? (a: string, b: string) => Number(a) - Number(b) : compareCodePoints;
  const chosen = [...counts]
    .filter(([word, times]) => times >= minCount && !none.has(word))
    .sort(([a, timesA], [b, timesB]) => timesB - timesA || compare(b, a))
    .slice(0, room);
  return { words: chosen.map(([word]) => word), counts: chosen.map(([, times]) => times) };
}

/** `[rows]`, in memory that threads share; null where none are wanted, or they are there. */
async function countsOf(
  spec: FeatureSpec,
  rows: number,
  words: Counts<string> | undefined,
  ids: Counts<number> | undefined,
): Promise<Float64Array | null> {
  const { weighting, table } = spec;
  if (weighting?.type !== 'sif' || weighting.counts instanceof Float64Array) return null;
  const counts = new Float64Array(new SharedArrayBuffer(8 * rows));
  const { counts: file } = weighting;
  if (file !== undefined && !/\.tsv$/i.test(file)) {
    const { shape, data } = await readNpy(file);
    if (shape.length !== 1 || shape[0] !== rows) {
      const message = `has shape [${shape.join(', ')}]; counts of table ${JSON.stringify(table)} are [${rows}]`;
      throw new FinetableError('INVALID_FILE', `${file}: ${message}`, { file });
    }
    for (let row = 0; row < rows; row++) counts[row] = Number(data[row]);
  } else if (ids) {
    for (const [id, times] of ids) counts[id] = times;
  } else {
    const options = vocabularyOf(spec)!;
    const { row } = openVocabulary(options, rows, table, spec.lookup?.integers);
    for (const [word, times] of words ?? wordCounts(options, file)) {
      const id = row(word);
      if (id >= 0) counts[id]! += times;
    }
  }
  const bad = counts.findIndex((times) => !Number.isFinite(times) || times < 0);
  if (bad >= 0) {
    const where = file ?? 'the counts';
    throw new FinetableError('INVALID_FILE', `${where}: row ${bad} has count ${counts[bad]}; allowed: 0 or more`);
  }
  return counts;
}

/** Of a file by word, or of the vocabulary itself. */
function wordCounts(options: VocabularyOptions, file: string | undefined): Iterable<readonly [string, number]> {
  const { words, counts } = wordsOf(file === undefined ? options : { vocabulary: file });
  if (!counts) throw invalidVocabulary(file ?? 'the vocabulary', 'has no counts');
  return words.map((word, i) => [word, counts[i]!] as const);
}
