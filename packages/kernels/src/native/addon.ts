/** The addon's functions as TypeScript sees them, and finding it. Arguments are positional; native/*.cc names them. */
import { pathToFileURL } from 'node:url';
import type { StoreDtype } from '../kernels.ts';
import { loadBuilt, type Built } from './built.ts';

/** Memory of a row store; freed by `closeRows` or when it is collected. */
export type Handle = object & { readonly __rows: never };
/** An instruction set and a number of threads. */
export type Context = object & { readonly __context: never };

type Ints = Int32Array;
type Floats = Float32Array;

/** Dtypes are numbers: their places in this list, as in `enum class Dtype` of native/ops.h. */
export const dtypes: readonly StoreDtype[] = ['f32', 'f16', 'bf16', 'int8', 'int4', 'i32'];

export type LookupArguments = [
  context: Context,
  dim: number,
  /** handle, first row, first column; handle, first row, first column; … */
  shards: readonly (Handle | number)[],
  overlayRows: Handle | null,
  overlaySlots: Ints | null,
  offsets: Ints,
  placeRows: Ints,
  placeUnique: Ints,
  uniqueRows: Ints,
  weights: Floats | null,
  factors: Handle | null,
  slots: Ints | null,
  b: Floats | null,
  scale: number,
  out: Floats,
  pooledFactors: Floats | null,
  pooledBase: Floats | null,
  columns: Floats | null,
];

/** Rows of a store, or of a matrix `[n, dim]`; both null: none. */
export type BaseRows = [store: Handle | null, matrix: Floats | null, dim: number];

/** What `updateRows` and `replayRows` begin with. */
export type SlotRows = [
  context: Context,
  ruleNumbers: Floats,
  step: number,
  parameters: Handle,
  momentum: Handle | null,
  squares: Handle | null,
  roundingSeed: number,
  slots: Ints,
  lastSteps: Handle | null,
];

export interface Addon {
  /** Null where this processor lacks the instruction set. */
  createContext(instructionSet: string | null, threads: number): Context | null;
  instructionSet(context: Context): string;

  createRows(rows: number, dim: number, dtype: number, groupDims: number): Handle;
  openRows(
    context: Context,
    mapped: boolean,
    rows: number,
    dim: number,
    dtype: number,
    groupDims: number,
    descriptor: number,
    /** Of the first row's first byte. */
    byteOffset: number,
    /** From row to row. */
    strideBytes: number,
    scalesDescriptor: number,
    scalesByteOffset: number,
    scalesStrideBytes: number,
  ): Handle;
  closeRows(rows: Handle): void;
  gatherRows(context: Context, from: Handle, rows: Ints, out: Floats): void;
  scatterRows(to: Handle, rows: Ints, values: Floats): void;
  readBytes(from: Handle, byteOffset: number, out: Uint8Array): void;
  readRows(from: Handle, rows: Ints, out: Uint8Array): void;
  writeBytes(to: Handle, byteOffset: number, bytes: Uint8Array): void;
  /** Files that the process has mapped. */
  mappedFiles(): number;

  lookup(...args: LookupArguments): void;
  lookupAsync(...args: LookupArguments): Promise<void>;
  nearest(
    context: Context,
    dim: number,
    tableRows: number,
    /** handle, first row, first column; handle, first row, first column; … */
    shards: readonly (Handle | number)[],
    queries: Floats,
    queryCount: number,
    k: number,
    cosine: boolean,
    factors: Handle | null,
    touchedRows: Ints | null,
    slots: Ints | null,
    b: Floats | null,
    scale: number,
    rows: Ints,
    scores: Floats,
  ): Promise<void>;
  addChosen(
    context: Context,
    dim: number,
    factors: readonly Handle[],
    b: readonly (Floats | null)[],
    scales: Floats,
    tables: readonly Ints[],
    bagDeltas: Ints,
    placeRows: Ints,
    offsets: Ints,
    weights: Floats | null,
    out: Floats,
  ): boolean;
  addRowProducts(
    ...args: [
      context: Context,
      ...BaseRows,
      rows: Ints,
      factors: Handle,
      slots: Ints,
      counted: Handle | null,
      cross: Float64Array,
      gram: Float64Array,
    ]
  ): void;
  segmentSum(
    context: Context,
    cols: number,
    groupOffsets: Ints,
    groupPlaces: Ints,
    groupBags: Ints,
    weights: Floats | null,
    values: Floats,
    uniques: Ints | null,
    out: Floats,
  ): void;
  updateRows(
    ...args: [
      ...SlotRows,
      gradients: Floats,
      ...BaseRows,
      rows: Ints | null,
      counted: Handle | null,
      cross: Float64Array | null,
      gram: Float64Array | null,
    ]
  ): void;
  replayRows(
    ...args: [
      ...SlotRows,
      numbers: Floats,
      sums: Floats | null,
      recent: number,
      logKept: Float64Array,
      singleSteps: number,
      logKeepMomentum: number,
      logKeepSquares: number,
    ]
  ): void;
  updateDense(
    context: Context,
    ruleNumbers: Floats,
    parameters: Floats,
    momentum: Floats | null,
    squares: Floats | null,
    gradients: Floats,
  ): void;

  matmul(
    context: Context,
    m: number,
    n: number,
    k: number,
    a: Floats,
    transposeA: boolean,
    b: Floats,
    transposeB: boolean,
    out: Floats,
    scale: number,
  ): void;
  addToRows(context: Context, rows: number, cols: number, x: Floats, row: Floats): void;
  scaleColumns(context: Context, rows: number, cols: number, x: Floats, row: Floats): void;
  sumRows(context: Context, rows: number, cols: number, x: Floats, out: Floats): void;
  columnDots(context: Context, rows: number, cols: number, x: Floats, y: Floats, out: Floats): void;
  softmaxCrossEntropy(
    context: Context,
    cols: number,
    logits: Floats,
    labels: Ints,
    losses: Floats,
    gradient: Floats | null,
    scale: number,
  ): void;
  pairDots(
    context: Context,
    rows: number,
    dim: number,
    vectors: readonly Floats[],
    cols: number,
    firstColumn: number,
    out: Floats,
  ): void;
  pairDotsBackward(
    context: Context,
    rows: number,
    dim: number,
    vectors: readonly Floats[],
    cols: number,
    firstColumn: number,
    gradient: Floats,
    outs: readonly (Floats | null)[],
  ): void;
  bagDots(context: Context, dim: number, x: Floats, y: Floats, offsets: Ints, places: Ints | null, out: Floats): void;
  bagDotsBackward(
    context: Context,
    dim: number,
    x: Floats,
    y: Floats,
    offsets: Ints,
    places: Ints | null,
    gradient: Floats,
    xOut: Floats | null,
    yOut: Floats | null,
  ): void;
  normalizeRows(context: Context, cols: number, x: Floats, norms: Floats): void;
  normalizeRowsBackward(context: Context, cols: number, y: Floats, norms: Floats, gradient: Floats): void;
  sumSquares(context: Context, x: Floats): number;
  scaleInPlace(context: Context, x: Floats, factor: number): void;
  firstNonFinite(context: Context, x: Floats): number;
  firstOutside(context: Context, values: Ints, low: number, limit: number): number;
  firstDescent(context: Context, values: Ints): number;
  firstRepeated(values: Ints): number;

  findSlots(table: Ints, rows: Ints, out: Ints): void;
  insertSlots(table: Ints, rows: Ints, slots: Ints, first: number): number;
}

let found: Built<Addon> | undefined;

/** The addon, or why there is none. Looked for once per JavaScript thread. */
export function findAddon(): Built<Addon> {
  found ??= find();
  return found;
}

function find(): Built<Addon> {
  // Another build of the same sources, as for sanitizers.
  const other = process.env.FINETABLE_ADDON;
  // From `src` and from `dist` alike.
  const build = new URL('../../build/', import.meta.url);
  return loadBuilt(build, other === undefined ? 'finetable.node' : pathToFileURL(other).href);
}
