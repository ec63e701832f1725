/**
 * What must be known of a whole source before its first batch: the classes of a label, say. Gathered block by block on all threads,
 * put together in the order of the source, and written into the `DataSpec`, which then says everything itself: batches, a later
 * evaluation and serving are made from the same.
 */
import { classGatherers, withClasses } from './label.ts';
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
  return new Map([...classGatherers(data)] as [string, Gatherer][]);
}

export function combineStates(data: PreparedData, parts: readonly GatheredStates[]): GatheredStates {
  const out: Record<string, unknown> = {};
  for (const [name, { start, combine }] of gatherersOf(data)) {
    out[name] = start();
    for (const part of parts) combine(out[name], part[name]);
  }
  return out;
}

/** The data with what was gathered in it. */
export function adapt(data: DataSpec, states: GatheredStates): DataSpec {
  return withClasses(data, states);
}
