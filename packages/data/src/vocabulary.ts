/** The words of a source, counted on all threads: what a loader does with a vocabulary that is to be built, by itself. */
import { checkData } from './check.ts';
import { interrupted } from './errors.ts';
import { vocabularyOf } from './feature/build.ts';
import { defaultRuntime } from './threads.ts';
import { planLoader } from './plan.ts';
import { prepare } from './prepare.ts';
import type { Skipped } from './skipped.ts';
import { sourceName } from './source/files.ts';
import { TemporaryFolder } from './source/compressed.ts';
import { rowsName } from './source/rows.ts';
import type { DataSpec, FeatureSpec, SourceSpec, VocabularyWords } from './spec.ts';

/** What words are: as of a feature, whose vocabulary is a `VocabularyBuild`. */
export type CountedFeature = Pick<FeatureSpec, 'column' | 'tokens' | 'lookup' | 'default'>;

/** Which words a built vocabulary has. */
export interface BuildVocabularyOptions {
  /** Worker threads; the words do not depend on it. Default 1. */
  readonly workers?: number | undefined;
  readonly badRows?: DataSpec['badRows'];
  /** Told how far it is. */
  readonly onProgress?: ((examples: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Words, the most frequent first, and how often each was found. */
export interface BuiltVocabulary extends VocabularyWords {
  readonly counts: readonly number[];
  /** Read, without those that were skipped. */
  readonly examples: number;
  readonly skipped: Skipped;
}

/**
 * Reads a source once. Memory grows with the number of different words.
 * @throws what `openLoader` does; DOES_NOT_FIT with more than 16,777,215 different words
 */
export async function buildVocabulary(
  source: SourceSpec,
  feature: CountedFeature,
  { workers, badRows, onProgress, signal }: BuildVocabularyOptions = {},
): Promise<BuiltVocabulary> {
  const data: DataSpec = {
    source,
    features: { words: { ...feature, table: 'words' } },
    labels: {},
    badRows,
    tables: { words: { rows: 2 ** 31 - 1 } },
  };
  checkData(data);
  const name = source.rows === undefined ? sourceName(source) : rowsName(source);
  if (signal?.aborted) throw interrupted(name);
  const plan = planLoader({ batchSize: 1, workers });
  const temporary = new TemporaryFolder();
  let prepared;
  try {
    prepared = await prepare(defaultRuntime, data, plan, name, temporary, signal, onProgress);
  } finally {
    temporary.remove();
  }
  const { words, counts } = vocabularyOf(prepared.data.features['words']!)!.vocabulary as VocabularyWords;
  const { index, selection, skipped } = prepared;
  return { words, counts: counts!, examples: selection?.count ?? index!.examples, skipped };
}
