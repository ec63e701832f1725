/** A batch's lookup on a GPU. */
import { FinetableError, planBags, type LookupPlan, type Matrix } from '@finetable/core';
import type { DeviceDelta, DeviceGradients, DeviceLookup, DeviceMatrix } from '@finetable/placement';
import { Checks } from './failure.ts';
import { deltaGradients, type KeptDelta } from './gradients.ts';
import type { Gpu, Span, Work } from './gpu.ts';
import { quadsOf } from './layout.ts';
import { matrixBytes, padMatrix, WebgpuMatrix } from './matrix.ts';
import type { RowPasses } from './rows.ts';
import { planRounds } from './segments.ts';
import { addPooled, addProduct } from './shaders/products.ts';
import { nothing } from './shaders/segment-sum.ts';
import { sumSegments, type Segments } from './sums.ts';

export class WebgpuLookup implements DeviceLookup {
  readonly plan: LookupPlan;
  readonly #gpu: Gpu;
  readonly #dim: number;
  readonly #checks = new Checks();
  /** Σ w W[id], `[b, D]`. */
  readonly #base: Span;
  /** Bags, and the unique row of each place; null without places. */
  readonly #bags: Segments | null;
  /** Buffers, until it is disposed. */
  readonly #held: Span[] = [];
  /** Null of a delta that changes nothing. */
  #kept: readonly (KeptDelta | null)[] = [];
  /** Buffers, until other deltas come. */
  #heldOfDeltas: Span[] = [];
  /** Of the places, as the deltas that are kept had them. */
  #weights: Float32Array | null;
  #disposed = false;

  constructor(gpu: Gpu, rows: RowPasses, plan: LookupPlan) {
    const { offsets, placeUnique, uniqueRows, weights } = plan;
    const { format, quads } = rows.layout;
    this.plan = plan;
    this.#gpu = gpu;
    this.#dim = format.dim;
    this.#weights = weights;
    let bags: Segments | null = null;
    this.#base = this.#run(this.#held, (work) => {
      if (uniqueRows.length === 0) {
        const base = gpu.take(matrixBytes(planBags(plan), format.dim));
        if (base.size > 0) work.clear(base);
        return base;
      }
      const rounds = planRounds(offsets);
      const spans = this.#upload(this.#held, [placeUnique, uniqueRows, ...rounds, ...(weights ? [weights] : [])]);
      const [list, through] = spans;
      bags = { list, rounds: spans.slice(2, 2 + rounds.length), weights: weights && spans.at(-1)! };
      return sumSegments(gpu, work, { ...bags, through }, rows, quads);
    });
    this.#held.push(this.#base);
    this.#bags = bags;
  }

  adapt(deltas: readonly DeviceDelta[], weights: Float32Array | null = null): WebgpuMatrix {
    this.#checkOpen();
    this.#forget();
    const bags = planBags(this.plan);
    this.#weights = weights?.slice() ?? this.plan.weights;
    const made: Span[] = [];
    return this.#run(made, (work) => {
      const used = this.#bags ? deltas : [];
      const e = this.#gpu.take(matrixBytes(bags, this.#dim));
      made.push(e);
      let before: Span | null = this.#base;
      const own = weights && used.length > 0 ? this.#upload(this.#heldOfDeltas, [weights])[0]! : this.#bags?.weights;
      this.#kept = deltas.map((delta) => {
        if (!this.#bags || delta.factors.rows === 0) return null;
        const kept = this.#pool(work, delta, own ?? null);
        const quads = quadsOf(this.#dim);
        const spans = [...(before ? [before] : []), kept.pooled, ...(kept.b ? [kept.b] : []), e];
        work.run(kept.b ? addProduct(quads, !before) : addPooled(!before), spans, bags * quads);
        before = null;
        return kept;
      });
      if (before && e.size > 0) work.copy(before, e);
      return new WebgpuMatrix(this.#gpu, this.#checks, bags, this.#dim, e);
    });
  }

  /** Ā of a delta. s is in B where there is one, else in A. */
  #pool(work: Work, delta: DeviceDelta, weights: Span | null): KeptDelta {
    const { members, factors, b, scale } = delta;
    const arrays: (Int32Array | Float32Array)[] = [padMatrix(factors, b ? 1 : scale)];
    if (b) arrays.push(padMatrix(b, scale, 4 * quadsOf(b.rows)));
    if (members) arrays.push(memberIndex(members, this.plan.uniqueRows.length));
    const spans = this.#upload(this.#heldOfDeltas, arrays);
    const { list, rounds } = this.#bags!;
    const segments = { list, rounds, weights, through: members ? spans.at(-1)! : undefined };
    const pooled = sumSegments(this.#gpu, work, segments, spans[0]!, quadsOf(factors.cols));
    this.#heldOfDeltas.push(pooled);
    return { delta: { members: members?.slice() ?? null, rank: factors.cols, scale }, b: b ? spans[1]! : null, pooled };
  }

  async gradients(gradient: Matrix | readonly DeviceMatrix[], out: readonly DeviceGradients[]): Promise<void> {
    this.#checkOpen();
    const gpu = this.#gpu;
    const used: Span[] = [];
    try {
      const results = this.#run([], (work) => {
        const g = this.#gradient(work, gradient, used);
        const lists = { plan: this.plan, weights: this.#weights };
        return this.#kept.flatMap((kept, i) => {
          const wanted = out[i]!;
          if (kept) return deltaGradients(gpu, work, lists, kept, { gradient: g, dim: this.#dim }, wanted, used);
          wanted.b?.data.fill(0);
          return [];
        });
      });
      if (results.length === 0) return await this.#checks.settle();
      const spans = results.map(({ span }) => span);
      await gpu.download(
        spans,
        this.#checks,
        results.map(({ use }) => use),
      );
    } finally {
      for (const span of used) gpu.give(span);
    }
  }

  /** `[b, D]` as one array. */
  #gradient(work: Work, gradient: Matrix | readonly DeviceMatrix[], used: Span[]): Span {
    const gpu = this.#gpu;
    const [b, dim] = [planBags(this.plan), this.#dim];
    const parts = 'data' in gradient ? [gradient] : gradient;
    const rows = parts.reduce((sum, part) => sum + part.rows, 0);
    const wrong = parts.find(({ cols }) => cols !== dim);
    if (rows !== b || wrong)
      throw new FinetableError('MISMATCH', `the gradient is [${rows}, ${wrong?.cols ?? dim}]; E is [${b}, ${dim}]`);
    if ('data' in gradient) {
      const { whole, spans } = gpu.upload([padMatrix(gradient)]);
      used.push(whole);
      return spans[0]!;
    }
    const spans = gradient.map((part) => {
      const span = part instanceof WebgpuMatrix ? part.spanOn(gpu) : null;
      if (span) return span;
      throw new FinetableError('INVALID_ARGUMENT', 'a gradient on a device must be on the one of the lookup');
    });
    if (spans.length === 1 && spans[0]!.offset === 0) return spans[0]!;
    const whole = gpu.take(matrixBytes(b, dim));
    used.push(whole);
    let at = 0;
    for (const span of spans) {
      if (span.size > 0) work.copy(span, whole, at);
      at += span.size;
    }
    return whole;
  }

  /** @param held gets the buffer */
  #upload(held: Span[], arrays: readonly (Int32Array | Float32Array)[]): readonly Span[] {
    const { whole, spans } = this.#gpu.upload(arrays);
    held.push(whole);
    return spans;
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#forget();
    for (const span of this.#held) this.#gpu.give(span);
  }

  #forget(): void {
    for (const span of this.#heldOfDeltas) this.#gpu.give(span);
    this.#heldOfDeltas = [];
    this.#kept = [];
  }

  /** @param held given back where recording fails at once */
  #run<T>(held: readonly Span[], record: (work: Work) => T): T {
    return this.#gpu.watch('a lookup failed', this.#checks, () => {
      const work = this.#gpu.begin();
      try {
        const made = record(work);
        work.submit();
        return made;
      } catch (error) {
        for (const span of held) this.#gpu.give(span);
        throw error;
      }
    });
  }

  #checkOpen(): void {
    if (this.#disposed) throw new FinetableError('CLOSED', `device "${this.#gpu.name}": the lookup is disposed`);
  }
}

/** Of each unique row, which of the members it is. */
function memberIndex(members: Int32Array, uniques: number): Int32Array {
  const index = new Int32Array(uniques).fill(nothing | 0);
  members.forEach((unique, i) => (index[unique] = i));
  return index;
}
