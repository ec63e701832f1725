/** Sums over segments on a GPU, in as many rounds and passes as they take. */
import { matrixBytes } from './matrix.ts';
import type { Gpu, Span, Work } from './gpu.ts';
import type { RowPasses } from './rows.ts';
import { segmentSum } from './shaders/segment-sum.ts';

/** Arrays on the device, as `segmentSum` has them. */
export interface Segments {
  /** Of `planRounds`. */
  readonly rounds: readonly Span[];
  readonly list?: Span | undefined;
  readonly through?: Span | undefined;
  readonly weights?: Span | null | undefined;
}

/**
 * @param of rows of a table, or a matrix with `quads` fours of columns
 * @returns `[S, 4 quads]`, to be given back
 */
export function sumSegments(gpu: Gpu, work: Work, segments: Segments, of: RowPasses | Span, quads: number): Span {
  const { rounds, list, through, weights } = segments;
  let sums: Span | null = null;
  for (const offsets of rounds) {
    const count = offsets.size / 4 - 1;
    const before: Span | null = sums;
    const out = gpu.take(matrixBytes(count, 4 * quads));
    const lists = before ? [] : [list, through, weights].filter((span) => !!span);
    const shape = { listed: !before && !!list, through: !before && !!through, weighted: !before && !!weights };
    const run = (source: readonly Span[], what: Pick<Parameters<typeof segmentSum>[0], 'of' | 'adds'>): void =>
      work.run(segmentSum({ ...shape, ...what }), [offsets, out, ...lists, ...source], count * quads);
    if (before) run([before], { of: 'matrix', adds: false });
    else if ('buffer' in of) run([of], { of: 'matrix', adds: false });
    // A shader sees so many shards at once; the sums of the others' rows are added to those before.
    else
      of.passes.forEach(({ shards, spans }, pass) => run(spans, { of: { layout: of.layout, shards }, adds: pass > 0 }));
    if (before) work.release(before);
    sums = out;
  }
  return sums!;
}
