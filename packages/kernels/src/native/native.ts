/** The native implementation: hands checked arguments to the addon. */
import { FinetableError, formatBytes, type LookupPlan, type Matrix } from '@finetable/core';
import { elementBytes, partGroupDims, storedBytes } from '../check/stores.ts';
import { isMatrix } from '../check/values.ts';
import type { Implementation } from '../implementation.ts';
import type {
  FileRows,
  LookupArgs,
  LookupDelta,
  ReplayRowsArgs,
  RowStore,
  StoreDtype,
  UpdateRowsArgs,
  UpdateRule,
} from '../kernels.ts';
import * as scans from '../portable/scans.ts';
import {
  dtypes,
  type Addon,
  type BaseRows,
  type Context,
  type Handle,
  type LookupArguments,
  type SlotRows,
} from './addon.ts';
import { nearest } from './nearest.ts';
import { ruleNumbers, stateOf } from './rule.ts';

class NativeRows implements RowStore {
  readonly rows: number;
  readonly dim: number;
  readonly dtype: StoreDtype;
  readonly groupDims: number;
  readonly home: 'ram' | 'mapped';
  readonly sizeBytes: number;
  readonly handle: Handle;
  readonly #addon: Addon;
  #closed = false;

  constructor(
    addon: Addon,
    handle: Handle,
    home: 'ram' | 'mapped',
    rows: number,
    dim: number,
    dtype: StoreDtype,
    groupDims: number,
  ) {
    this.#addon = addon;
    this.handle = handle;
    this.home = home;
    this.rows = rows;
    this.dim = dim;
    this.dtype = dtype;
    this.groupDims = groupDims;
    this.sizeBytes = rows * storedBytes(dtype, dim, groupDims);
  }

  get closed(): boolean {
    return this.#closed;
  }

  close(): void {
    if (!this.#closed) this.#addon.closeRows(this.handle);
    this.#closed = true;
  }
}

export const handleOf = (store: RowStore): Handle => (store as NativeRows).handle;

const baseRows = (base: RowStore | Matrix | null): BaseRows =>
  isMatrix(base) ? [null, base.data, base.cols] : [base && handleOf(base), null, 0];

/** The system's refusals as errors of ours. */
function attempt<T>(where: string, sizeBytes: number, operation: () => T): T {
  try {
    return operation();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const size = formatBytes(sizeBytes);
    if (code === 'ENOMEM')
      throw new FinetableError('OUT_OF_MEMORY', `${where}: the system refused ${size}`, { sizeBytes }, { cause });
    if (code === 'EOF') throw new FinetableError('INVALID_FILE', `${where}: ${message}`, {}, { cause });
    throw new FinetableError('IO', `${where}: ${message}`, { errno: code ?? 'unknown' }, { cause });
  }
}

// Below this many values a search is over sooner in JavaScript than a call into native code.
const shortSearch = 256;

/** @param instructionSet null for the best that the processor has */
export function nativeKernels(addon: Addon, threads: number, instructionSet: string | null = null): Implementation {
  const context = addon.createContext(instructionSet, threads);
  if (!context) throw new FinetableError('UNSUPPORTED', `this processor does not have ${instructionSet}`);
  const name = addon.instructionSet(context);
  return {
    name: 'native',
    description: `native (C++, ${name}), ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    threads,
    withThreads: (count) => nativeKernels(addon, count, instructionSet),
    owns: (store) => store instanceof NativeRows,
    ...rowCalls(addon, context),
    ...sparseCalls(addon, context),
    ...denseCalls(addon, context),
    ...searches(addon, context),
    findSlots: (table, rows, out) => addon.findSlots(table, rows, out),
    insertSlots: (table, rows, slots, first) => addon.insertSlots(table, rows, slots, first),
  };
}

type RowCalls = Pick<
  Implementation,
  'createRows' | 'openRows' | 'gatherRows' | 'scatterRows' | 'readBytes' | 'readRows' | 'writeBytes'
>;

function rowCalls(addon: Addon, context: Context): RowCalls {
  return {
    createRows(rows, dim, dtype, groupDims) {
      const sizeBytes = rows * storedBytes(dtype, dim, groupDims);
      const handle = attempt('createRows', sizeBytes, () =>
        addon.createRows(rows, dim, dtypes.indexOf(dtype), groupDims),
      );
      return new NativeRows(addon, handle, 'ram', rows, dim, dtype, groupDims);
    },
    openRows(file: FileRows, home, part, descriptors) {
      const { path, byteOffset, dim, dtype, scales } = file;
      const { firstRow, rows, firstColumn, columns } = part;
      const groupDims = partGroupDims(file, part);
      const stride = elementBytes(dtype, dim);
      const first = byteOffset + firstRow * stride + elementBytes(dtype, firstColumn);
      const scalesStride = scales ? 4 * Math.ceil(dim / scales.groupDims) : 0;
      const firstScale = scales
        ? scales.byteOffset + firstRow * scalesStride + 4 * Math.floor(firstColumn / scales.groupDims)
        : 0;
      const handle = attempt(path, rows * storedBytes(dtype, columns, groupDims), () =>
        addon.openRows(
          context,
          home === 'mapped',
          rows,
          columns,
          dtypes.indexOf(dtype),
          groupDims,
          descriptors.rows,
          first,
          stride,
          descriptors.scales ?? -1,
          firstScale,
          scalesStride,
        ),
      );
      return new NativeRows(addon, handle, home, rows, columns, dtype, groupDims);
    },
    gatherRows: (store, rows, out) => addon.gatherRows(context, handleOf(store), rows, out.data),
    scatterRows: (store, rows, values) => addon.scatterRows(handleOf(store), rows, values.data),
    readBytes: (store, byteOffset, out) => addon.readBytes(handleOf(store), byteOffset, out),
    readRows: (store, rows, out) => addon.readRows(handleOf(store), rows, out),
    writeBytes: (store, byteOffset, bytes) => addon.writeBytes(handleOf(store), byteOffset, bytes),
  };
}

type SparseCalls = Pick<
  Implementation,
  | 'lookup'
  | 'lookupAsync'
  | 'nearest'
  | 'addDelta'
  | 'addChosen'
  | 'addRowProducts'
  | 'segmentSum'
  | 'updateRows'
  | 'replayRows'
>;

function sparseCalls(addon: Addon, context: Context): SparseCalls {
  const pool = (
    { base, overlay }: Pick<LookupArgs, 'base' | 'overlay'>,
    plan: LookupPlan,
    delta: LookupDelta | null,
    out: Matrix,
    pooledFactors: Matrix | null,
  ): LookupArguments => [
    context,
    out.cols,
    base.flatMap(({ store, firstRow, firstColumn = 0 }) => [handleOf(store), firstRow, firstColumn]),
    overlay ? handleOf(overlay.rows) : null,
    overlay ? overlay.slots : null,
    plan.offsets,
    plan.placeRows,
    plan.placeUnique,
    plan.uniqueRows,
    plan.weights,
    delta && handleOf(delta.factors),
    delta && delta.slots,
    delta && (delta.b?.data ?? null),
    delta ? delta.scale : 0,
    out.data,
    pooledFactors && pooledFactors.data,
    delta?.pooledBase?.data ?? null,
    delta?.columns ?? null,
  ];
  const lookup = (args: LookupArgs): LookupArguments =>
    pool(args, args.plan, args.delta ?? null, args.out, args.pooledFactors ?? null);
  const slotRows = (args: UpdateRowsArgs | ReplayRowsArgs, rule: UpdateRule): SlotRows => {
    const { momentum, squares } = stateOf(rule, args.state);
    return [
      context,
      ruleNumbers(rule, args.step),
      args.step,
      handleOf(args.parameters),
      momentum && handleOf(momentum),
      squares && handleOf(squares),
      args.roundingSeed ?? 0,
      args.slots,
      args.lastSteps ? handleOf(args.lastSteps) : null,
    ];
  };

  return {
    lookup: (args) => addon.lookup(...lookup(args)),
    // An error of the addon rejects.
    lookupAsync: async (args) => addon.lookupAsync(...lookup(args)),
    nearest: (args) => nearest(addon, context, args),
    addDelta: ({ plan, delta, out, pooledFactors }) =>
      addon.lookup(...pool({ base: [] }, plan, delta, out, pooledFactors ?? null)),
    addChosen: ({ plan, deltas, bagDeltas, out }) =>
      addon.addChosen(
        context,
        out.cols,
        deltas.map(({ factors }) => handleOf(factors)),
        deltas.map(({ b }) => b && b.data),
        Float32Array.from(deltas, ({ scale }) => scale),
        deltas.map(({ slots }) => slots),
        bagDeltas,
        plan.placeRows,
        plan.offsets,
        plan.weights,
        out.data,
      ),
    addRowProducts: ({ base, rows, factors, slots, counted, cross, gram }) =>
      addon.addRowProducts(
        context,
        ...baseRows(base),
        rows,
        handleOf(factors),
        slots,
        counted && handleOf(counted),
        cross,
        gram,
      ),
    segmentSum: ({ plan, values, uniques, out }) =>
      addon.segmentSum(
        context,
        values.cols,
        plan.groupOffsets,
        plan.groupPlaces,
        plan.groupBags,
        plan.weights,
        values.data,
        uniques ?? null,
        out.data,
      ),
    updateRows(args) {
      const { base = null, rows = null, counted, cross = null, gram = null } = args.products ?? {};
      addon.updateRows(
        ...slotRows(args, args.rule),
        args.gradients.data,
        ...baseRows(base),
        rows,
        counted ? handleOf(counted) : null,
        cross,
        gram,
      );
    },
    replayRows(args) {
      const { rule, form, numbers, sums, recent, logKept, singleSteps } = args.skipped.advance(args.step);
      addon.replayRows(
        ...slotRows(args, rule),
        numbers,
        sums,
        recent,
        logKept,
        Math.min(singleSteps, 0x7fffffff),
        Math.log(form.keepMomentum),
        Math.log(form.keepSquares),
      );
    },
  };
}

type DenseCalls = Pick<
  Implementation,
  | 'updateDense'
  | 'matmul'
  | 'addToRows'
  | 'scaleColumns'
  | 'sumRows'
  | 'columnDots'
  | 'softmaxCrossEntropy'
  | 'pairDots'
  | 'pairDotsBackward'
  | 'bagDots'
  | 'bagDotsBackward'
  | 'normalizeRows'
  | 'normalizeRowsBackward'
  | 'sumSquares'
  | 'scaleInPlace'
  | 'firstNonFinite'
>;

const dataOf = ({ data }: Matrix): Float32Array => data;

function denseCalls(addon: Addon, context: Context): DenseCalls {
  return {
    updateDense({ rule, step, parameters, state, gradients }) {
      const { momentum, squares } = stateOf(rule, state);
      addon.updateDense(context, ruleNumbers(rule, step), parameters, momentum, squares, gradients);
    },
    matmul({ a, b, out, transposeA = false, transposeB = false, scale = 1 }) {
      const k = transposeA ? a.rows : a.cols;
      addon.matmul(context, out.rows, out.cols, k, a.data, transposeA, b.data, transposeB, out.data, scale);
    },
    addToRows: (x, row) => addon.addToRows(context, x.rows, x.cols, x.data, row),
    scaleColumns: (x, row) => addon.scaleColumns(context, x.rows, x.cols, x.data, row),
    sumRows: (x, out) => addon.sumRows(context, x.rows, x.cols, x.data, out),
    columnDots: (x, y, out) => addon.columnDots(context, x.rows, x.cols, x.data, y.data, out),
    softmaxCrossEntropy: ({ logits, labels, losses, gradient, scale = 1 }) =>
      addon.softmaxCrossEntropy(context, logits.cols, logits.data, labels, losses, gradient?.data ?? null, scale),
    pairDots({ vectors, out, firstColumn = 0 }) {
      const { rows, cols } = vectors[0]!;
      addon.pairDots(context, rows, cols, vectors.map(dataOf), out.cols, firstColumn, out.data);
    },
    pairDotsBackward({ vectors, gradient, firstColumn = 0, outs }) {
      const { rows, cols } = vectors[0]!;
      const written = outs.map((out) => out && out.data);
      const data = vectors.map(dataOf);
      addon.pairDotsBackward(context, rows, cols, data, gradient.cols, firstColumn, gradient.data, written);
    },
    bagDots: ({ x, y, offsets, places = null, out }) =>
      addon.bagDots(context, x.cols, x.data, y.data, offsets, places, out),
    bagDotsBackward({ x, y, offsets, places = null, gradient, xOut, yOut }) {
      const outs = [xOut?.data ?? null, yOut?.data ?? null] as const;
      addon.bagDotsBackward(context, x.cols, x.data, y.data, offsets, places, gradient, ...outs);
    },
    normalizeRows: (x, norms) => addon.normalizeRows(context, x.cols, x.data, norms),
    normalizeRowsBackward: (y, norms, gradient) =>
      addon.normalizeRowsBackward(context, y.cols, y.data, norms, gradient.data),
    sumSquares: (x) => addon.sumSquares(context, x),
    scaleInPlace: (x, factor) => addon.scaleInPlace(context, x, factor),
    firstNonFinite: (x) => addon.firstNonFinite(context, x),
  };
}

type Searches = Pick<Implementation, 'firstOutside' | 'firstDescent' | 'firstRepeated'>;

function searches(addon: Addon, context: Context): Searches {
  return {
    firstOutside: (values, low, limit) =>
      values.length < shortSearch
        ? scans.firstOutside(values, low, limit)
        : addon.firstOutside(context, values, low, limit),
    firstDescent: (values) =>
      values.length < shortSearch ? scans.firstDescent(values) : addon.firstDescent(context, values),
    firstRepeated: (values) =>
      values.length < shortSearch ? scans.firstRepeated(values) : addon.firstRepeated(values),
  };
}
