/** The paths of a job: relative to the job file's folder. */

import type { Job } from './schema.ts';

type Feature = Job['features'][string];
type Negatives = Job['negatives'][string];

/** A feature with what `map` makes of each of its paths. */
export function featurePaths(feature: Feature, map: (path: string) => string): Feature {
  const { tokens, lookup, weighting } = feature;
  const vocabulary = <T>(given: T): T => (typeof given === 'string' ? map(given) : given) as T;
  return {
    ...feature,
    ...(tokens && {
      tokens: {
        ...tokens,
        ...(tokens.vocabulary !== undefined && { vocabulary: vocabulary(tokens.vocabulary) }),
        ...(tokens.tokenizer !== undefined && { tokenizer: map(tokens.tokenizer) }),
      },
    }),
    ...(lookup && { lookup: { ...lookup, vocabulary: vocabulary(lookup.vocabulary) } }),
    ...(weighting?.type === 'sif' &&
      weighting.counts !== undefined && { weighting: { ...weighting, counts: map(weighting.counts) } }),
  };
}

/** Negatives with what `map` makes of the path of their counts. */
export function negativesPaths(negatives: Negatives, map: (path: string) => string): Negatives {
  const { distribution } = negatives;
  if (typeof distribution !== 'object' || distribution.counts === undefined) return negatives;
  return { ...negatives, distribution: { ...distribution, counts: map(distribution.counts) } };
}

/** What `map` makes of a path, or of each of several. */
export function mapPaths(paths: string | string[], map: (path: string) => string): string | string[] {
  return typeof paths === 'string' ? map(paths) : paths.map(map);
}
