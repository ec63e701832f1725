/** Gradients of one delta on a GPU: ∂L/∂A[j] = Σ over the places of j of w (s g Bᵀ)[bag], and ∂L/∂B = s Āᵀ g. */
import { planBags, type LookupPlan } from '@finetable/core';
import type { DeviceGradients } from '@finetable/placement';
import type { Gpu, Span, Work } from './gpu.ts';
import { quadsOf } from './layout.ts';
import { matrixBytes, unpadMatrix } from './matrix.ts';
import { planRounds } from './segments.ts';
import { outerProducts, pieceBags, project } from './shaders/products.ts';
import { sumSegments } from './sums.ts';

/** A delta as `adapt` left it. */
export interface KeptDelta {
  readonly delta: { readonly members: Int32Array | null; readonly rank: number; readonly scale: number };
  /** s B, `[4 rankQuads, D]`; null: the identity. */
  readonly b: Span | null;
  /** Ā, `[b, r]`; without B, s Ā. */
  readonly pooled: Span;
}

/** What is to be read, and who takes it. */
export interface Result {
  readonly span: Span;
  readonly use: (bytes: Uint8Array) => void;
}

/**
 * @param weights of the places
 * @param used buffers to be given back once the results are read
 */
export function deltaGradients(
  gpu: Gpu,
  work: Work,
  { plan, weights }: { readonly plan: LookupPlan; readonly weights: Float32Array | null },
  { delta, b, pooled }: KeptDelta,
  { gradient, dim }: { readonly gradient: Span; readonly dim: number },
  out: DeviceGradients,
  used: Span[],
): Result[] {
  const bags = planBags(plan);
  const { members, rank, scale } = delta;
  const [quads, rankQuads] = [quadsOf(dim), quadsOf(rank)];
  const held = (span: Span): Span => {
    used.push(span);
    return span;
  };
  const upload = (arrays: readonly (Int32Array | Float32Array)[]): readonly Span[] => {
    const { whole, spans } = gpu.upload(arrays);
    held(whole);
    return spans;
  };
  const results: Result[] = [];
  const { rows, b: ofB } = out;
  if (rows) {
    const projected = b ? held(gpu.take(matrixBytes(bags, rank))) : gradient;
    if (b) work.run(project(quads), [gradient, b, projected], bags * rankQuads);
    const lists = placesOf(plan, members);
    const rounds = planRounds(lists.offsets);
    const own = weights && Float32Array.from(lists.places, (place) => weights[place]!);
    const spans = upload([lists.bags, ...rounds, ...(own ? [own] : [])]);
    const segments = { list: spans[0]!, rounds: spans.slice(1, 1 + rounds.length), weights: own && spans.at(-1)! };
    const sums = held(sumSegments(gpu, work, segments, projected, rankQuads));
    results.push({ span: sums, use: (bytes) => unpadMatrix(bytes, rows, b ? 1 : scale) });
  }
  if (ofB) {
    const pieces = Math.ceil(bags / pieceBags(bags));
    const width = 4 * rankQuads * quads;
    const products = held(gpu.take(matrixBytes(pieces, 4 * width)));
    work.run(outerProducts(quads), [pooled, gradient, products], (pieces * width) / 4);
    const rounds = upload(planRounds(Int32Array.of(0, pieces)));
    const sums = held(sumSegments(gpu, work, { rounds }, products, width));
    // Without B, s is in what was pooled.
    results.push({ span: sums, use: (bytes) => unpadMatrix(bytes, ofB, b ? scale : 1) });
  }
  return results;
}

/** Places grouped by row, of those rows that are wanted: the place of each, and its bag. */
function placesOf(
  { groupOffsets, groupPlaces, groupBags }: LookupPlan,
  members: Int32Array | null,
): { readonly offsets: Int32Array; readonly places: Int32Array; readonly bags: Int32Array } {
  if (!members) return { offsets: groupOffsets, places: groupPlaces, bags: groupBags };
  const offsets = new Int32Array(members.length + 1);
  members.forEach((row, i) => (offsets[i + 1] = offsets[i]! + groupOffsets[row + 1]! - groupOffsets[row]!));
  const [places, bags] = [new Int32Array(offsets.at(-1)!), new Int32Array(offsets.at(-1)!)];
  members.forEach((row, i) => {
    places.set(groupPlaces.subarray(groupOffsets[row], groupOffsets[row + 1]), offsets[i]);
    bags.set(groupBags.subarray(groupOffsets[row], groupOffsets[row + 1]), offsets[i]);
  });
  return { offsets, places, bags };
}
