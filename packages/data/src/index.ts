/**
 * Files to planned batches, in worker threads: an index pass finds the examples of a JSON Lines or CSV file; then batches
 * come in file order or shuffled, each with its lookup plans made, the same for any number of workers.
 *
 * @example
 * ```ts
 * const loader = await openLoader(
 *   {
 *     source: { file: 'train.jsonl' },
 *     features: { text: { table: 'words', column: 'text', ngrams: { min: 3, max: 5 } } },
 *     labels: { intent: { column: 'intent' } },
 *     tables: { words: { rows: 1_000_000 } },
 *   },
 *   { batchSize: 256, workers: 2, shuffle: true, seed: 7 },
 * );
 * for await (const batch of loader.batches(0)) step(batch.plans.words, batch.labels.intent);
 * await loader.close();
 * ```
 *
 * Static embedding models (sentence-transformers, model2vec) open with their tokenizer:
 *
 * ```ts
 * const model = await openStaticModel('potion-base-8M');
 * const adapter = createAdapter(model.table, { rank: 8 }); // of @finetable/lora
 * model.encode(['a text'], adapter); // [1, D]
 * await model.save('potion-tuned', { adapter }); // for the Python library
 * ```
 * @module
 */
export type { Batch, FeatureBags } from './batch.ts';
export type {
  DataSpec,
  FeatureSpec,
  FileSource,
  FractionSplit,
  FrequencyDistribution,
  FrequencyWeighting,
  HashSpec,
  HistoriesSpec,
  InteractionHistories,
  LabelSpec,
  LeaveOutSplit,
  ListHistories,
  LoaderOptions,
  LookupSpec,
  Moments,
  NegativesSpec,
  NgramSpec,
  NumbersSpec,
  OutOfVocabularySpec,
  PositionWeighting,
  Row,
  RowSource,
  SkipSpec,
  SourceSpec,
  SplitSpec,
  TimeSplit,
  TokenizerSpec,
  TokenSpec,
  VocabularyBuild,
  VocabularyOptions,
  VocabularySpec,
  VocabularyWords,
  WeightingSpec,
  WeightSpec,
} from './spec.ts';
export { mostCacheBytes } from './cache.ts';
export { mostPlaceCount as mostIndexedPlaces } from './source/text/scan.ts';
export { foundIn, readFound, withFound, writeFound, type Adapted, type FoundData, type FoundFeature } from './found.ts';
export { historyColumns } from './histories/columns.ts';
export { planLoader, readerBytes, type LoaderPlan } from './plan.ts';
export type { SourceFormat, SourceShape } from './source/source.ts';
export { openLoader, type Loader } from './loader.ts';
export type { DataIdentity, LoaderPosition } from './position.ts';
export type { Retried } from './pool.ts';
export type { Skipped } from './skipped.ts';
export type { LoaderStatistics, StageSeconds } from './statistics.ts';
export { visitSource, type RowVisitor, type SourceVisit, type VisitedRow, type VisitOptions } from './visit.ts';
export { openStaticModel, StaticModel, type SaveStaticOptions } from './static/model.ts';
export { readTokenizer, type Tokenizer } from './tokenizer/tokenizer.ts';
export { countNgrams } from './feature/ngrams.ts';
export { defaultTokenPattern, wordSplitter, type Splitting } from './feature/words.ts';
export {
  buildVocabulary,
  type BuildVocabularyOptions,
  type BuiltVocabulary,
  type CountedFeature,
} from './vocabulary.ts';
export { wordLines } from './word-lines.ts';
