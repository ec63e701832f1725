/** A batch's lookup on tensors: `DeviceLookup` in tfjs operations that every backend has. */
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { FinetableError, planBags, type LookupPlan, type Matrix } from '@finetable/core';
import type { DeviceDelta, DeviceGradients, DeviceLookup, DeviceMatrix } from '@finetable/placement';
import { tf } from '../load.ts';
import { failure } from './failure.ts';
import { TfjsMatrix } from './matrix.ts';
import type { TfjsRows } from './rows.ts';
import { SegmentSums } from './segments.ts';
import type { Traffic } from './traffic.ts';

/** A delta as `adapt` left it. */
interface Kept {
  readonly delta: DeviceDelta;
  readonly b: Tensor2D | null;
  /** `[k] i32`; null: all. */
  readonly members: Tensor1D | null;
  /** s Ā, `[b, r]`. */
  readonly pooled: Tensor2D;
}

export class TfjsLookup implements DeviceLookup {
  readonly plan: LookupPlan;
  readonly #device: string;
  readonly #traffic: Traffic;
  readonly #dim: number;
  /** Null without places: there is nothing to sum. */
  readonly #places: SegmentSums | null;
  /** Σ w W[id], `[b, D]`. */
  readonly #base: Tensor2D;
  /** Null of a delta that changes nothing. */
  #kept: readonly (Kept | null)[] = [];
  /** Of the deltas that are kept. */
  #weights: Float32Array | null;
  #disposed = false;

  constructor(device: string, rows: TfjsRows, plan: LookupPlan, traffic: Traffic) {
    const { offsets, placeUnique, uniqueRows, weights } = plan;
    this.plan = plan;
    this.#device = device;
    this.#traffic = traffic;
    this.#dim = rows.dim;
    this.#weights = weights;
    const places = uniqueRows.length > 0 ? new SegmentSums(offsets, placeUnique, weights, traffic) : null;
    this.#places = places;
    this.#base = this.#run(() => {
      if (!places) return tf.zeros([planBags(plan), rows.dim]);
      // Where most places have a row of their own, collecting the rows first only costs another copy.
      const whole = 2 * uniqueRows.length > placeUnique.length ? rows.whole : null;
      return whole
        ? places.of(whole, { through: traffic.ints(uniqueRows.slice()) })
        : places.of(rows.values(uniqueRows));
    });
  }

  adapt(deltas: readonly DeviceDelta[], weights: Float32Array | null = null): TfjsMatrix {
    this.#checkOpen();
    this.#forget();
    const kept = deltas.map((): Kept | null => null);
    this.#kept = kept;
    this.#weights = weights ?? this.plan.weights;
    const e = this.#run(() => {
      let sum = tf.clone(this.#base);
      const places = this.#places;
      if (!places) return sum;
      deltas.forEach((delta, i) => {
        if (delta.factors.rows === 0) return;
        const b = delta.b && tf.keep(this.#floats(delta.b));
        const members = delta.members && tf.keep(this.#traffic.ints(delta.members.slice()));
        const pooled = tf.keep(tf.mul(places.of(this.#ofUniques(delta), { weights }), delta.scale) as Tensor2D);
        kept[i] = { delta, b, members, pooled };
        sum = tf.add(sum, b ? tf.matMul(pooled, b) : pooled);
      });
      return sum;
    });
    return new TfjsMatrix(e, this.#traffic);
  }

  /** A of all unique rows, `[u, r]`: zeros of those that are not members. */
  #ofUniques({ members, factors }: DeviceDelta): Tensor2D {
    const own = this.#floats(factors);
    if (!members) return own;
    const index = new Int32Array(this.plan.uniqueRows.length).fill(members.length);
    members.forEach((unique, i) => (index[unique] = i));
    return tf.gather(tf.concat([own, tf.zeros([1, factors.cols])], 0), this.#traffic.ints(index));
  }

  async gradients(gradient: Matrix | readonly DeviceMatrix[], out: readonly DeviceGradients[]): Promise<void> {
    this.#checkOpen();
    const { groupOffsets, groupBags, groupPlaces } = this.plan;
    const results: { readonly tensor: Tensor; readonly to: Matrix }[] = [];
    const weights = this.#weights;
    let groups: SegmentSums | null = null;
    try {
      tf.tidy(() => {
        const g = this.#gradient(gradient);
        this.#kept.forEach((kept, i) => {
          const { rows, b } = out[i]!;
          if (!kept) {
            b?.data.fill(0);
            return;
          }
          const keep = (tensor: Tensor, to: Matrix): unknown => results.push({ tensor: tf.keep(tensor), to });
          if (rows) {
            groups ??= new SegmentSums(
              groupOffsets,
              groupBags,
              weights && Float32Array.from(groupPlaces, (p) => weights[p]!),
              this.#traffic,
            );
            const projected = kept.b ? tf.matMul(g, kept.b, false, true) : g;
            const sums = groups.of(tf.mul(projected, kept.delta.scale));
            keep(kept.members ? tf.gather(sums, kept.members) : sums, rows);
          }
          if (b) keep(tf.matMul(kept.pooled, g, true, false), b);
        });
      });
      await Promise.all(
        results.map(async ({ tensor, to }) => to.data.set((await this.#traffic.download(tensor)) as Float32Array)),
      );
    } catch (error) {
      throw failure(this.#device, 'gradients failed', error);
    } finally {
      for (const { tensor } of results) tensor.dispose();
      (groups as SegmentSums | null)?.dispose();
    }
  }

  #gradient(gradient: Matrix | readonly DeviceMatrix[]): Tensor2D {
    const [b, dim] = [planBags(this.plan), this.#dim];
    const tensor = 'data' in gradient ? this.#floats(gradient) : tf.concat(gradient.map(tensorOf), 0);
    if (tensor.shape[0] === b && tensor.shape[1] === dim) return tensor;
    throw new FinetableError('MISMATCH', `the gradient is [${tensor.shape.join(', ')}]; E is [${b}, ${dim}]`);
  }

  #floats({ rows, cols, data }: Matrix): Tensor2D {
    return this.#traffic.floats(data.slice(), [rows, cols]) as Tensor2D;
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#forget();
    this.#places?.dispose();
    this.#base.dispose();
  }

  #forget(): void {
    for (const kept of this.#kept) {
      kept?.b?.dispose();
      kept?.members?.dispose();
      kept?.pooled.dispose();
    }
    this.#kept = [];
  }

  #run(work: () => Tensor2D): Tensor2D {
    try {
      return tf.keep(tf.tidy(work));
    } catch (error) {
      throw failure(this.#device, 'a lookup failed', error);
    }
  }

  #checkOpen(): void {
    if (this.#disposed) throw new FinetableError('CLOSED', `device "${this.#device}": the lookup is disposed`);
  }
}

function tensorOf(matrix: DeviceMatrix): Tensor2D {
  if (matrix instanceof TfjsMatrix) return matrix.tensor;
  throw new FinetableError('INVALID_ARGUMENT', 'a gradient on a device must be on the one of the lookup');
}
