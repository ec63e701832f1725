/** What a loader found out about its data, by itself: so that another source is read as the first was, now or in another process. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FinetableError } from '@finetable/core';
import { ioError, readNpy, writeFileAtomic, writeNpy } from '@finetable/formats';
import { vocabularyOf, withVocabulary } from './feature/build.ts';
import { isBuild } from './feature/vocabulary.ts';
import type { DataSpec, FeatureSpec, Moments, NegativesSpec, VocabularyWords } from './spec.ts';

/** The parts of a `DataSpec` that things are found for in the data. */
export type Adapted = Pick<DataSpec, 'features' | 'negatives' | 'labels' | 'numbers' | 'tables'>;

/** What was found in training data and holds for all other data of a run: classes, vocabularies, counts, moments. Plain values, for JSON. */
export interface FoundData {
  /** Class names in index order. */
  readonly labels: Readonly<Record<string, readonly string[]>>;
  readonly features: Readonly<Record<string, FoundFeature>>;
  readonly numbers: Readonly<Record<string, Moments>>;
  /** `[rows]`: counts that negatives are drawn by. */
  readonly negatives: Readonly<Record<string, Float64Array>>;
}

/** Of one feature: its vocabulary and counts. */
export interface FoundFeature {
  /** That was built, or given as words. */
  readonly vocabulary?: VocabularyWords;
  /** `[rows]`: those of frequency weights. */
  readonly counts?: Float64Array;
}

/** What is in the data of an open loader (`loader.data`). */
export function foundIn({ features, negatives = {}, labels, numbers = {} }: Adapted): FoundData {
  const entries = <S, T>(specs: Readonly<Record<string, S>>, pick: (spec: S) => T | undefined): Record<string, T> =>
    Object.fromEntries(
      Object.entries(specs).flatMap(([name, spec]) => {
        const found = pick(spec);
        return found === undefined ? [] : [[name, found]];
      }),
    );
  return {
    labels: entries(labels, ({ classes }) => classes),
    features: entries(features, foundFeature),
    numbers: entries(numbers, ({ normalize }) => (typeof normalize === 'object' ? normalize : undefined)),
    negatives: entries(negatives, ({ distribution }) => {
      const counts = typeof distribution === 'object' ? distribution.counts : undefined;
      return counts instanceof Float64Array ? counts : undefined;
    }),
  };
}

function foundFeature(spec: FeatureSpec): FoundFeature | undefined {
  const vocabulary = vocabularyOf(spec)?.vocabulary;
  const words = typeof vocabulary === 'object' && !isBuild(vocabulary) ? vocabulary : undefined;
  const counts = spec.weighting?.type === 'sif' ? spec.weighting.counts : undefined;
  const dense = counts instanceof Float64Array ? counts : undefined;
  if (!words && !dense) return undefined;
  return { ...(words && { vocabulary: words }), ...(dense && { counts: dense }) };
}

/** The data with what was found in another: nothing that was found is looked for again. */
export function withFound<T extends Adapted>(data: T, found: FoundData): T {
  const map = <S>(specs: Readonly<Record<string, S>>, change: (spec: S, name: string) => S): Record<string, S> =>
    Object.fromEntries(Object.entries(specs).map(([name, spec]) => [name, change(spec, name)]));
  return {
    ...data,
    labels: map(data.labels, (spec, name) => ({ ...spec, classes: spec.classes ?? found.labels[name] })),
    features: map(data.features, (spec, name) => withFoundFeature(spec, found.features[name] ?? {})),
    ...(data.negatives && {
      negatives: map(data.negatives, (spec, name) => withFoundCounts(spec, found.negatives[name])),
    }),
    ...(data.numbers && {
      numbers: map(data.numbers, (spec, name) =>
        spec.normalize === 'measured' && found.numbers[name] ? { ...spec, normalize: found.numbers[name] } : spec,
      ),
    }),
  };
}

function withFoundFeature(spec: FeatureSpec, { vocabulary, counts }: FoundFeature): FeatureSpec {
  const options = vocabularyOf(spec);
  const built = vocabulary && options && isBuild(options.vocabulary) ? withVocabulary(spec, vocabulary) : spec;
  return counts && spec.weighting?.type === 'sif' ? { ...built, weighting: { ...spec.weighting, counts } } : built;
}

function withFoundCounts(spec: NegativesSpec, counts: Float64Array | undefined): NegativesSpec {
  return counts && typeof spec.distribution === 'object'
    ? { ...spec, distribution: { ...spec.distribution, counts } }
    : spec;
}

interface FoundFile {
  readonly labels: FoundData['labels'];
  readonly numbers: FoundData['numbers'];
  readonly features: Readonly<
    Record<string, { readonly vocabulary?: string; readonly counts?: string; readonly rows?: number }>
  >;
  readonly negatives?: Readonly<Record<string, FoundCounts>>;
}

interface FoundCounts {
  readonly counts: string;
  readonly rows: number;
}

/**
 * Writes a folder: `found.json`, a JSON file with `words` and `counts` for each vocabulary, and `[k, 2]` f64 (row, count) in a .npy file for
 * each feature with counts. @throws IO
 */
export async function writeFound(folder: string, found: FoundData): Promise<void> {
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw ioError(error, 'writing', folder);
  });
  const features: Record<string, FoundFile['features'][string]> = {};
  for (const [name, { vocabulary, counts }] of Object.entries(found.features)) {
    const base = encodeURIComponent(name);
    const files = {
      ...(vocabulary && { vocabulary: `${base}.vocabulary.json` }),
      ...(counts && { counts: `${base}.counts.npy`, rows: counts.length }),
    };
    if (vocabulary) await writeFileAtomic(join(folder, files.vocabulary!), `${JSON.stringify(vocabulary)}\n`);
    if (counts) await writeCounts(join(folder, files.counts!), counts);
    features[name] = files;
  }
  const negatives: Record<string, FoundCounts> = {};
  for (const [name, counts] of Object.entries(found.negatives)) {
    const file = `${encodeURIComponent(name)}.counts.npy`;
    await writeCounts(join(folder, file), counts);
    negatives[name] = { counts: file, rows: counts.length };
  }
  const { labels, numbers } = found;
  const json = JSON.stringify({ labels, features, numbers, negatives }, null, 2);
  await writeFileAtomic(join(folder, 'found.json'), `${json}\n`);
}

function writeCounts(file: string, counts: Float64Array): Promise<void> {
  const pairs = nonZero(counts);
  return writeNpy(file, { dtype: 'F64', shape: [pairs.length / 2, 2], data: pairs });
}

function nonZero(counts: Float64Array): Float64Array {
  const pairs = new Float64Array(2 * counts.reduce((sum, count) => sum + (count > 0 ? 1 : 0), 0));
  let at = 0;
  for (let row = 0; row < counts.length; row++) {
    if (counts[row] === 0) continue;
    pairs[at++] = row;
    pairs[at++] = counts[row]!;
  }
  return pairs;
}

/** @throws NOT_FOUND, INVALID_FILE, IO */
export async function readFound(folder: string): Promise<FoundData> {
  const { labels, numbers, features, negatives = {} } = await readJson<FoundFile>(join(folder, 'found.json'));
  const read: Record<string, FoundFeature> = {};
  for (const [name, { vocabulary, counts, rows = 0 }] of Object.entries(features)) {
    read[name] = {
      ...(vocabulary !== undefined && { vocabulary: await readJson<VocabularyWords>(join(folder, vocabulary)) }),
      ...(counts !== undefined && { counts: await readCounts(join(folder, counts), rows) }),
    };
  }
  const drawn: Record<string, Float64Array> = {};
  for (const [name, { counts, rows }] of Object.entries(negatives))
    drawn[name] = await readCounts(join(folder, counts), rows);
  return { labels, features: read, numbers, negatives: drawn };
}

async function readCounts(file: string, rows: number): Promise<Float64Array> {
  const { shape, data } = await readNpy(file);
  if (shape.length !== 2 || shape[1] !== 2 || !(data instanceof Float64Array))
    throw new FinetableError('INVALID_FILE', `${file}: not pairs of row and count`, { file });
  const counts = new Float64Array(new SharedArrayBuffer(8 * rows));
  for (let i = 0; i < data.length; i += 2) {
    if (!(data[i]! >= 0 && data[i]! < rows))
      throw new FinetableError('INVALID_FILE', `${file}: row ${data[i]}; allowed: 0 to ${rows - 1}`, { file });
    counts[data[i]!] = data[i + 1]!;
  }
  return counts;
}

async function readJson<T>(file: string): Promise<T> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw ioError(error, 'reading', file);
  });
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new FinetableError('INVALID_FILE', `${file}: not JSON: ${(error as Error).message}`, { file });
  }
}
