/** What an adapter can be asked for. */
import type { HeUniformRows, OptionNames } from '@finetable/core';
import type { RowSelection } from './row-set.ts';

/** Settings that override the trainer's optimiser. */
export interface AdapterRates {
  /** Step size of A, and of B unless that has its own. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
}

/**
 * How A and B start. All but `keras` start A at 0, so that a row no example touched is exactly its base row for ever.
 * - `sparse` (default): B ~ N(0, 1).
 * - `orthogonal`: rows of B are orthogonal, of length √D, in random directions.
 * - `pissa`: rows of B are the principal directions of a sample of the base's rows, √σ long as in PiSSA (Meng et al. 2024), and A
 *   is kept as its difference from PiSSA's start. With B frozen that is PiSSA exactly; there is no residual base.
 * - `keras`: A he-uniform, B = 0, as Keras' `enable_lora`. A's start is counter-based random numbers by row, so it takes no
 *   memory; but every row of the table moves as soon as B does. In exact mode without weight decay, which would shrink every row.
 */
export type AdapterInit = 'sparse' | 'orthogonal' | 'pissa' | 'keras';

export interface LoraOptions extends AdapterRates {
  readonly kind?: 'lora' | undefined;
  /** r, from 1 to min(V, D). */
  readonly rank: number;
  /** The delta is scaled by alpha / rank. Default: rank (scale 1). */
  readonly alpha?: number | undefined;
  /** Scale by alpha / sqrt(rank) instead (Kalajdzievski 2023). */
  readonly rsLora?: boolean | undefined;
  /** Or, of an adapter that was read, what its file says of untouched rows of A. */
  readonly init?: AdapterInit | HeUniformRows | undefined;
  /** Step size of B (LoRA+: Hayou et al. 2024); 0 keeps B as it started. */
  readonly learningRateB?: number | undefined;
  /** The factor that is not trained. A may be frozen only where it does not start at 0 (`keras`, or a loaded adapter). */
  readonly freeze?: 'A' | 'B' | undefined;
}

export interface DenseOptions extends AdapterRates {
  /** A D-wide delta per touched row, scale 1. */
  readonly kind: 'dense';
}

/** One group's factors. */
export type FactorOptions = LoraOptions | DenseOptions;

/** Rows with a rank and a B of their own, or a dense delta. */
export type GroupOptions = FactorOptions & {
  /** Names it in files and errors; distinct, not `rest`. */
  readonly name: string;
  /** The first group that has a row gets it. */
  readonly rows: RowSelection;
};

/** Options of an adapter beside those of its factors. */
export interface SharedOptions {
  /** Draws whatever is random: B, dropout. Default 0. */
  readonly seed?: number | undefined;
  /** The only rows that are trained, beside those of `groups`. Default: all. */
  readonly rows?: RowSelection | undefined;
  /** Groups of rows with factors of their own; the adapter's own options are for the rest. */
  readonly groups?: readonly GroupOptions[] | undefined;
  /**
   * Of a table that was grown (`growTable`): the factors of the rows that were added, as a group named `grown`, or `tied` for those
   * of the rest. Rows in `groups` are not in it, and there is none with `rows` or with a group that is named `grown`.
   *
   * Default: dense, with the adapter's learning rate and weight decay, which measured best beside a rest of rank 4: on a year of
   * retail baskets, where 27 % of the items to find were new, HR@10 was 0.193, with a group of rank 16 0.178, of rank 4 0.165, tied
   * 0.160, without training 0.151; tuning every row in full gave 0.190 (`tools/experiments/grown-rows`).
   */
  readonly grown?: 'tied' | FactorOptions | undefined;
  /** A row that gets no gradient and so stays its base row. */
  readonly paddingRow?: number | undefined;
  /**
   * In training, the chance in [0, 1) that the delta of a place is left out; the others grow by 1 / (1 - dropout). That is LoRA's
   * dropout of A's input, which for an embedding is one-hot.
   */
  readonly dropout?: number | undefined;
  /**
   * Adapted rows longer than this are read as if scaled to it (as `max_norm` of `torch.nn.Embedding`, but nothing is written; the
   * gradient takes the factor for a constant). Costs one more lookup of the batch's unique rows. Not with `dora`.
   */
  readonly maxNorm?: number | undefined;
  /**
   * DoRA (Liu et al. 2024): every dim of the adapted table gets a trained magnitude; its norm is kept current as rows change. One pass
   * over the base when the adapter is made.
   */
  readonly dora?: boolean | undefined;
}

/** What an adapter is made with: LoRA factors or a dense delta, and what all its groups share. */
export type AdapterOptions = FactorOptions & SharedOptions;

const rates: OptionNames<AdapterRates> = { learningRate: true, weightDecay: true };
const lora: OptionNames<LoraOptions> = {
  kind: true,
  rank: true,
  alpha: true,
  rsLora: true,
  init: true,
  learningRateB: true,
  freeze: true,
  ...rates,
};
const dense: OptionNames<DenseOptions> = { kind: true, ...rates };

/** Names of all options of factors, by their kind. */
export const factorNames = { lora, dense };
/** Those that a group has beside its factors'. */
export const groupNames: OptionNames<Pick<GroupOptions, 'name' | 'rows'>> = { name: true, rows: true };
/** Those that an adapter has beside its factors'. */
export const sharedNames: OptionNames<SharedOptions> = {
  seed: true,
  rows: true,
  groups: true,
  grown: true,
  paddingRow: true,
  dropout: true,
  maxNorm: true,
  dora: true,
};
