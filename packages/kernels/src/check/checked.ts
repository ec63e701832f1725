/** `Kernels` over an implementation: every call is checked here, then passed on. */
import { FinetableError, planBags, type LookupPlan, type Matrix } from '@finetable/core';
import type { Implementation } from '../implementation.ts';
import type {
  BagDotsArgs,
  BagDotsBackwardArgs,
  ChosenDeltas,
  CrossEntropyArgs,
  FileRows,
  Kernels,
  LookupArgs,
  LookupDelta,
  MatmulArgs,
  NearestArgs,
  PairDotsArgs,
  PairDotsBackwardArgs,
  ReplayRowsArgs,
  RowProducts,
  RowStore,
  SegmentSumArgs,
  SlotTable,
  StoreDtype,
  TablePart,
  UpdateDenseArgs,
  UpdateRowsArgs,
} from '../kernels.ts';
import { checkGroups, checkIndices, checkPlaces, checkRows } from './plan.ts';
import {
  checkDelta,
  checkFloatStore,
  checkGroupDims,
  checkPart,
  checkScaling,
  checkShape,
  checkShards,
  checkStore,
  checkStretch,
  elementBytes,
  withFiles,
} from './stores.ts';
import { checkRule } from './rule.ts';
import { checkDense, checkSkipped, checkUpdatable } from './update.ts';
import {
  checkApart,
  checkBytes,
  checkDoubles,
  checkFloats,
  checkInteger,
  checkInts,
  checkMatrix,
  checkNumber,
  checkPairs,
  isMatrix,
  refuse,
} from './values.ts';

/** More threads than this is a mistake; a thread costs memory even while it sleeps. */
export const mostThreads = 1024;

export class CheckedKernels implements Kernels {
  readonly #inner: Implementation;

  constructor(inner: Implementation) {
    this.#inner = inner;
  }

  get name(): 'portable' | 'native' {
    return this.#inner.name;
  }

  get description(): string {
    return this.#inner.description;
  }

  get threads(): number {
    return this.#inner.threads;
  }

  withThreads(threads: number): Kernels {
    checkInteger('withThreads', 'threads', threads, 1, mostThreads);
    return new CheckedKernels(this.#inner.withThreads(threads));
  }

  createRows(rows: number, dim: number, dtype: StoreDtype, groupDims?: number): RowStore {
    checkShape('createRows', rows, dim, dtype);
    return this.#inner.createRows(rows, dim, dtype, checkGroupDims('createRows', 'groupDims', dtype, dim, groupDims));
  }

  openRows(file: FileRows, home: 'ram' | 'mapped', part?: TablePart): RowStore {
    if (home !== 'ram' && home !== 'mapped') refuse('openRows', 'home', `must be ram or mapped, found ${String(home)}`);
    return withFiles(file, (descriptors) =>
      this.#inner.openRows(file, home, checkPart('openRows', file, part), descriptors),
    );
  }

  gatherRows(store: RowStore, rows: Int32Array, out: Matrix): void {
    checkFloatStore(this.#inner, 'gatherRows', 'store', store);
    checkInts('gatherRows', 'rows', rows);
    checkMatrix('gatherRows', 'out', out, rows.length, store.dim);
    checkRows(this.#inner, 'gatherRows', 'rows', rows, store.rows);
    checkApart('gatherRows', 'out', out.data, rows);
    this.#inner.gatherRows(store, rows, out);
  }

  scatterRows(store: RowStore, rows: Int32Array, values: Matrix): void {
    checkFloatStore(this.#inner, 'scatterRows', 'store', store, { writable: true });
    checkInts('scatterRows', 'rows', rows);
    checkMatrix('scatterRows', 'values', values, rows.length, store.dim);
    checkRows(this.#inner, 'scatterRows', 'rows', rows, store.rows);
    const at = store.groupDims === 0 ? -1 : this.#inner.firstNonFinite(values.data);
    if (at >= 0) {
      throw new FinetableError(
        'NON_FINITE',
        `scatterRows: values[${Math.floor(at / store.dim)}, ${at % store.dim}] is ${values.data[at]}, which ${store.dtype} cannot hold`,
        { argument: 'values', index: at },
      );
    }
    this.#inner.scatterRows(store, rows, values);
  }

  readBytes(store: RowStore, byteOffset: number, out: Uint8Array): void {
    checkStore(this.#inner, 'readBytes', 'store', store);
    checkStretch('readBytes', 'out', store, byteOffset, out);
    this.#inner.readBytes(store, byteOffset, out);
  }

  readRows(store: RowStore, rows: Int32Array, out: Uint8Array): void {
    checkStore(this.#inner, 'readRows', 'store', store);
    if (store.groupDims > 0) refuse('readRows', 'store', `must be of a dtype without scales, found ${store.dtype}`);
    checkInts('readRows', 'rows', rows);
    checkRows(this.#inner, 'readRows', 'rows', rows, store.rows);
    checkBytes('readRows', 'out', out);
    const expected = rows.length * elementBytes(store.dtype, store.dim);
    if (out.length !== expected) refuse('readRows', 'out', `must have ${expected} bytes, found ${out.length}`);
    this.#inner.readRows(store, rows, out);
  }

  writeBytes(store: RowStore, byteOffset: number, bytes: Uint8Array): void {
    checkStore(this.#inner, 'writeBytes', 'store', store, { writable: true });
    checkStretch('writeBytes', 'bytes', store, byteOffset, bytes);
    this.#inner.writeBytes(store, byteOffset, bytes);
  }

  lookup(args: LookupArgs): void {
    this.#checkLookup('lookup', args);
    this.#inner.lookup(args);
  }

  lookupAsync(args: LookupArgs): Promise<void> {
    this.#checkLookup('lookupAsync', args);
    return this.#inner.lookupAsync(args);
  }

  #checkLookup(where: string, { base, overlay, plan, delta, out, pooledFactors }: LookupArgs): void {
    checkPlaces(this.#inner, where, plan);
    checkMatrix(where, 'out', out, planBags(plan));
    checkShards(this.#inner, where, base, plan.tableRows, out.cols, overlay ?? null, plan.uniqueRows);
    this.#checkDelta(where, plan, delta ?? null, out, pooledFactors ?? null);
  }

  nearest(args: NearestArgs): Promise<void> {
    const where = 'nearest';
    const { base, tableRows, queries, metric, delta, rows, scores } = args;
    checkInteger(where, 'tableRows', tableRows, 1, 0x7fffffff);
    checkMatrix(where, 'queries', queries);
    checkMatrix(where, 'scores', scores, queries.rows);
    checkInteger(where, 'scores.cols', scores.cols, 1, tableRows);
    checkInts(where, 'rows', rows, scores.data.length);
    checkShards(this.#inner, where, base, tableRows, queries.cols);
    if (metric !== 'dot' && metric !== 'cosine')
      refuse(where, 'metric', `must be dot or cosine, found ${String(metric)}`);
    checkApart(where, 'scores', scores.data, queries.data);
    if (delta) {
      checkInts(where, 'delta.rows', delta.rows);
      checkRows(this.#inner, where, 'delta.rows', delta.rows, tableRows);
      const at = this.#inner.firstDescent(delta.rows);
      if (at >= 0) refuse(where, 'delta.rows', `must ascend, found ${delta.rows[at]} at ${at}`);
      const again = this.#inner.firstRepeated(delta.rows);
      if (again >= 0) refuse(where, 'delta.rows', `must be distinct, found ${delta.rows[again]} again at ${again}`);
      checkDelta(this.#inner, where, delta, queries.cols, delta.rows.length);
    }
    return this.#inner.nearest(args);
  }

  addDelta(args: { plan: LookupPlan; delta: LookupDelta; out: Matrix; pooledFactors?: Matrix | null }): void {
    const { plan, delta, out } = args;
    checkPlaces(this.#inner, 'addDelta', plan);
    checkMatrix('addDelta', 'out', out, planBags(plan));
    this.#checkDelta('addDelta', plan, delta, out, args.pooledFactors ?? null);
    this.#inner.addDelta(args);
  }

  addChosen(args: ChosenDeltas): void {
    const where = 'addChosen';
    const { plan, deltas, bagDeltas, out } = args;
    checkPlaces(this.#inner, where, plan);
    checkMatrix(where, 'out', out, planBags(plan));
    checkInts(where, 'bagDeltas', bagDeltas, planBags(plan));
    checkIndices(this.#inner, where, 'bagDeltas', bagDeltas, -1, deltas.length);
    for (const delta of deltas) {
      checkDelta(this.#inner, where, { ...delta, slots: new Int32Array(0) }, out.cols, 0);
      this.#checkTable(where, delta.slots);
      if (delta.b) checkApart(where, 'out', out.data, delta.b.data);
    }
    if (!this.#inner.addChosen(args)) refuse(where, 'deltas', 'have a slot beyond their factors');
  }

  #checkDelta(where: string, plan: LookupPlan, delta: LookupDelta | null, out: Matrix, pooled: Matrix | null): void {
    if (delta) {
      checkDelta(this.#inner, where, delta, out.cols, plan.uniqueRows.length);
      checkScaling(where, delta, out, pooled);
    }
    if (delta?.b) checkApart(where, 'out', out.data, delta.b.data);
    if (!pooled) return;
    if (!delta?.b) refuse(where, 'pooledFactors', 'must be left out unless there is a delta with a b');
    checkMatrix(where, 'pooledFactors', pooled, planBags(plan), delta.factors.dim);
    checkApart(where, 'pooledFactors', pooled.data, out.data, delta.b.data);
  }

  segmentSum(args: SegmentSumArgs): void {
    const { plan, values, uniques, out } = args;
    checkGroups(this.#inner, 'segmentSum', plan);
    checkMatrix('segmentSum', 'values', values, planBags(plan));
    if (uniques) {
      checkInts('segmentSum', 'uniques', uniques);
      checkIndices(this.#inner, 'segmentSum', 'uniques', uniques, 0, plan.uniqueRows.length);
    }
    checkMatrix('segmentSum', 'out', out, (uniques ?? plan.uniqueRows).length, values.cols);
    checkApart('segmentSum', 'out', out.data, values.data);
    this.#inner.segmentSum(args);
  }

  addRowProducts(args: RowProducts): void {
    this.#checkProducts('addRowProducts', args);
    const { slots, factors } = args;
    checkIndices(this.#inner, 'addRowProducts', 'slots', slots, -1, factors.rows);
    this.#inner.addRowProducts(args);
  }

  /** But for which slots there are. */
  #checkProducts(where: string, { base, rows, factors, slots, counted, cross, gram }: RowProducts): void {
    if (isMatrix(base)) checkMatrix(where, 'base', base);
    else checkFloatStore(this.#inner, where, 'base', base);
    checkStore(this.#inner, where, 'factors', factors, { dtype: 'f32' });
    if (counted) {
      checkStore(this.#inner, where, 'counted', counted, { dtype: 'f32', dim: factors.dim, writable: true });
      if (counted.rows !== factors.rows || counted === factors)
        refuse(where, 'counted', `must be another store of ${factors.rows} rows, found ${counted.rows}`);
    }
    checkInts(where, 'rows', rows);
    checkIndices(this.#inner, where, 'rows', rows, 0, base.rows);
    checkInts(where, 'slots', slots, rows.length);
    checkDoubles(where, 'cross', cross, factors.dim * (isMatrix(base) ? base.cols : base.dim));
    checkDoubles(where, 'gram', gram, factors.dim ** 2);
  }

  findSlots(table: SlotTable, rows: Int32Array, out: Int32Array): void {
    this.#checkSlots('findSlots', table, rows);
    checkInts('findSlots', 'out', out, rows.length);
    checkApart('findSlots', 'out', out, table, rows);
    this.#inner.findSlots(table, rows, out);
  }

  insertSlots(table: SlotTable, rows: Int32Array, slots: Int32Array, first: number): number {
    this.#checkSlots('insertSlots', table, rows);
    checkInts('insertSlots', 'slots', slots, rows.length);
    checkApart('insertSlots', 'slots', slots, table, rows);
    checkInteger('insertSlots', 'first', first, 0, 0x7fffffff - rows.length);
    const count = this.#inner.insertSlots(table, rows, slots, first);
    if (count < 0) refuse('insertSlots', 'table', `is full: it holds ${table.length / 2} rows`);
    return count;
  }

  #checkSlots(where: string, table: SlotTable, rows: Int32Array): void {
    this.#checkTable(where, table);
    checkInts(where, 'rows', rows);
    checkIndices(this.#inner, where, 'rows', rows, 0, 0x7fffffff);
  }

  #checkTable(where: string, table: SlotTable): void {
    checkInts(where, 'table', table);
    const entries = table.length / 2;
    if (entries < 1 || entries > 2 ** 30 || !Number.isInteger(Math.log2(entries))) {
      refuse(where, 'table', `must have 2, 4, 8, … values, found ${table.length}`);
    }
  }

  updateRows(args: UpdateRowsArgs): void {
    const { slots, gradients, parameters } = args;
    checkRule('updateRows', args.rule);
    checkUpdatable(this.#inner, 'updateRows', args.rule, args, args.lastSteps ?? null);
    checkIndices(this.#inner, 'updateRows', 'slots', slots, 0, parameters.rows);
    this.#checkDistinct('updateRows', slots);
    checkMatrix('updateRows', 'gradients', gradients, slots.length, parameters.dim);
    const { products } = args;
    if (products) {
      this.#checkProducts('updateRows', { ...products, factors: parameters, slots });
      if (products.counted && args.state.includes(products.counted))
        refuse('updateRows', 'counted', 'must be another store than the state');
    }
    this.#inner.updateRows(args);
  }

  replayRows(args: ReplayRowsArgs): void {
    const { slots, parameters } = args;
    checkSkipped('replayRows', args);
    checkUpdatable(this.#inner, 'replayRows', args.skipped.rule, args, args.lastSteps);
    checkIndices(this.#inner, 'replayRows', 'slots', slots, -1, parameters.rows);
    this.#checkDistinct('replayRows', slots);
    this.#inner.replayRows(args);
  }

  #checkDistinct(where: string, slots: Int32Array): void {
    const at = this.#inner.firstRepeated(slots);
    if (at >= 0) refuse(where, 'slots', `must be distinct, found ${slots[at]} again at ${at}`);
  }

  updateDense(args: UpdateDenseArgs): void {
    checkDense('updateDense', args);
    this.#inner.updateDense(args);
  }

  matmul(args: MatmulArgs): void {
    const { a, b, out, transposeA, transposeB, scale } = args;
    checkMatrix('matmul', 'a', a);
    checkMatrix('matmul', 'b', b);
    if (transposeA && transposeB) refuse('matmul', 'transposeB', 'must not be set together with transposeA');
    if (scale !== undefined) checkNumber('matmul', 'scale', scale);
    const [m, k] = transposeA ? [a.cols, a.rows] : [a.rows, a.cols];
    const [kOfB, n] = transposeB ? [b.cols, b.rows] : [b.rows, b.cols];
    if (k !== kOfB) {
      refuse(
        'matmul',
        'b',
        `must agree with a: a is [${a.rows}, ${a.cols}], b is [${b.rows}, ${b.cols}], inner sizes ${k} and ${kOfB}`,
      );
    }
    checkMatrix('matmul', 'out', out, m, n);
    checkApart('matmul', 'out', out.data, a.data, b.data);
    this.#inner.matmul(args);
  }

  scaleColumns(x: Matrix, row: Float32Array): void {
    checkMatrix('scaleColumns', 'x', x);
    checkFloats('scaleColumns', 'row', row, x.cols);
    checkApart('scaleColumns', 'x', x.data, row);
    this.#inner.scaleColumns(x, row);
  }

  addToRows(x: Matrix, row: Float32Array): void {
    checkMatrix('addToRows', 'x', x);
    checkFloats('addToRows', 'row', row, x.cols);
    checkApart('addToRows', 'x', x.data, row);
    this.#inner.addToRows(x, row);
  }

  columnDots(x: Matrix, y: Matrix, out: Float32Array): void {
    checkMatrix('columnDots', 'x', x);
    checkMatrix('columnDots', 'y', y, x.rows, x.cols);
    checkFloats('columnDots', 'out', out, x.cols);
    checkApart('columnDots', 'out', out, x.data, y.data);
    this.#inner.columnDots(x, y, out);
  }

  sumRows(x: Matrix, out: Float32Array): void {
    checkMatrix('sumRows', 'x', x);
    checkFloats('sumRows', 'out', out, x.cols);
    checkApart('sumRows', 'out', out, x.data);
    this.#inner.sumRows(x, out);
  }

  softmaxCrossEntropy(args: CrossEntropyArgs): void {
    const { logits, labels, losses, gradient, scale } = args;
    const where = 'softmaxCrossEntropy';
    checkMatrix(where, 'logits', logits);
    checkInts(where, 'labels', labels, logits.rows);
    checkFloats(where, 'losses', losses, logits.rows);
    if (scale !== undefined) checkNumber(where, 'scale', scale);
    checkApart(where, 'losses', losses, logits.data);
    if (gradient) {
      checkMatrix(where, 'gradient', gradient, logits.rows, logits.cols);
      checkApart(where, 'losses', losses, gradient.data);
      if (gradient.data.byteOffset !== logits.data.byteOffset)
        checkApart(where, 'gradient', gradient.data, logits.data);
    }
    const at = this.#inner.firstOutside(labels, 0, logits.cols);
    if (at >= 0) refuse(where, 'labels', `must be in [0, ${logits.cols}), found ${labels[at]} at ${at}`);
    this.#inner.softmaxCrossEntropy(args);
  }

  pairDots(args: PairDotsArgs): void {
    const { vectors, out, firstColumn } = args;
    checkPairs('pairDots', 'out', vectors, out, firstColumn);
    checkApart('pairDots', 'out', out.data, ...vectors.map(({ data }) => data));
    this.#inner.pairDots(args);
  }

  pairDotsBackward(args: PairDotsBackwardArgs): void {
    const where = 'pairDotsBackward';
    const { vectors, gradient, firstColumn, outs } = args;
    checkPairs(where, 'gradient', vectors, gradient, firstColumn);
    if (outs.length !== vectors.length) refuse(where, 'outs', `must be ${vectors.length}, found ${outs.length}`);
    outs.forEach((out, i) => {
      if (!out) return;
      checkMatrix(where, `outs[${i}]`, out, vectors[i]!.rows, vectors[i]!.cols);
      const others = outs.flatMap((other, j) => (other && j < i ? [other.data] : []));
      checkApart(where, `outs[${i}]`, out.data, gradient.data, ...vectors.map(({ data }) => data), ...others);
    });
    this.#inner.pairDotsBackward(args);
  }

  bagDots(args: BagDotsArgs): void {
    const { x, y, out } = args;
    checkFloats('bagDots', 'out', out, this.#checkBags('bagDots', args));
    checkApart('bagDots', 'out', out, x.data, y.data);
    this.#inner.bagDots(args);
  }

  bagDotsBackward(args: BagDotsBackwardArgs): void {
    const where = 'bagDotsBackward';
    const { x, y, gradient, xOut, yOut } = args;
    checkFloats(where, 'gradient', gradient, this.#checkBags(where, args));
    if (xOut) {
      checkMatrix(where, 'xOut', xOut, x.rows, x.cols);
      checkApart(where, 'xOut', xOut.data, x.data, y.data, gradient);
    }
    if (yOut) {
      checkMatrix(where, 'yOut', yOut, y.rows, y.cols);
      checkApart(where, 'yOut', yOut.data, x.data, y.data, gradient, ...(xOut ? [xOut.data] : []));
    }
    this.#inner.bagDotsBackward(args);
  }

  /** @returns how many products there are */
  #checkBags(where: string, { x, y, offsets, places }: Omit<BagDotsArgs, 'out'>): number {
    checkMatrix(where, 'x', x);
    checkMatrix(where, 'y', y, undefined, x.cols);
    checkInts(where, 'offsets', offsets, x.rows + 1);
    const at = this.#inner.firstDescent(offsets);
    if (at >= 0) refuse(where, 'offsets', `must ascend, found ${offsets[at]} at ${at}`);
    if (places) {
      checkInts(where, 'places', places);
      const wrong = this.#inner.firstOutside(places, 0, y.rows);
      if (wrong >= 0) refuse(where, 'places', `must be in [0, ${y.rows}), found ${places[wrong]} at ${wrong}`);
    }
    const count = places ? places.length : y.rows;
    if (offsets[0] !== 0 || offsets[x.rows] !== count)
      refuse(where, 'offsets', `must go from 0 to ${count}, found ${offsets[0]} to ${offsets[x.rows]}`);
    return count;
  }

  normalizeRows(x: Matrix, norms: Float32Array): void {
    checkMatrix('normalizeRows', 'x', x);
    checkFloats('normalizeRows', 'norms', norms, x.rows);
    checkApart('normalizeRows', 'norms', norms, x.data);
    this.#inner.normalizeRows(x, norms);
  }

  normalizeRowsBackward(y: Matrix, norms: Float32Array, gradient: Matrix): void {
    checkMatrix('normalizeRowsBackward', 'y', y);
    checkFloats('normalizeRowsBackward', 'norms', norms, y.rows);
    checkMatrix('normalizeRowsBackward', 'gradient', gradient, y.rows, y.cols);
    checkApart('normalizeRowsBackward', 'gradient', gradient.data, y.data, norms);
    this.#inner.normalizeRowsBackward(y, norms, gradient);
  }

  sumSquares(x: Float32Array): number {
    checkFloats('sumSquares', 'x', x);
    return this.#inner.sumSquares(x);
  }

  scaleInPlace(x: Float32Array, factor: number): void {
    checkFloats('scaleInPlace', 'x', x);
    checkNumber('scaleInPlace', 'factor', factor);
    this.#inner.scaleInPlace(x, factor);
  }

  firstNonFinite(x: Float32Array): number {
    checkFloats('firstNonFinite', 'x', x);
    return this.#inner.firstNonFinite(x);
  }
}
