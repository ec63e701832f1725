/**
 * What must be known of a whole source before its first batch: the classes of a label, a vocabulary, mean and deviation. Gathered block
 * by block on all threads, put together in the order of the source, and written into the `DataSpec`, which then says everything itself:
 * batches, a later evaluation and serving are made from the same.
 */
import { featureGatherers, withFeatures } from './feature/build.ts';
import { classGatherers, withClasses } from './label.ts';
import { momentGatherers, withMoments } from './numbers.ts';
import type { PreparedData } from './protocol.ts';
import type { DataSpec } from './spec.ts';
import type { Records } from './source/source.ts';

/** One thing to know. States are plain data, since they cross threads. */
export interface Gatherer<State = unknown> {
  readonly columns: readonly string[];
  readonly start: () => State;
  /** Adds some records to a state. @throws INVALID_DATA */
  readonly add: (state: State, records: Records) => void;
  /** Adds a state of later records to `state`. */
  readonly combine: (state: State, later: State) => void;
}

export type GatheredStates = Readonly<Record<string, unknown>>;

/** By name; none where everything is known. */
export function gatherersOf(data: PreparedData): ReadonlyMap<string, Gatherer> {
  return new Map([...classGatherers(data), ...featureGatherers(data), ...momentGatherers(data)] as [
    string,
    Gatherer,
  ][]);
}

/** Paths of what the data does not say yet. */
export function unknownPaths(data: PreparedData): string[] {
  const paths = Object.entries(data.labels)
    .filter(([, { classes, type }]) => !classes && type !== 'number')
    .map(([name]) => `labels.${name}.classes`);
  for (const [key] of [...featureGatherers(data), ...momentGatherers(data)]) {
    const [kind, name] = [key.slice(0, key.indexOf('/')), key.slice(key.indexOf('/') + 1)];
    if (kind === 'numbers') paths.push(`numbers.${name}.normalize`);
    else if (kind === 'counts') paths.push(`features.${name}.weighting.counts`);
    else paths.push(`features.${name}.${data.features[name]!.lookup ? 'lookup' : 'tokens'}.vocabulary`);
  }
  return paths;
}

export function combineStates(data: PreparedData, parts: readonly GatheredStates[]): GatheredStates {
  const out: Record<string, unknown> = {};
  for (const [name, { start, combine }] of gatherersOf(data)) {
    out[name] = start();
    for (const part of parts) combine(out[name], part[name]);
  }
  return out;
}

/** The data with what was gathered in it, and with the counts of files. */
export function adapt(data: DataSpec, states: GatheredStates): Promise<DataSpec> {
  return withFeatures(withMoments(withClasses(data, states), states), states);
}
