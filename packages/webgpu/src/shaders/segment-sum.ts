/**
 * Weighted sums over segments of a list: pooling of rows, of A's rows, and the sums of gradients by row. Thread i adds up four columns of
 * one segment, so neighbouring threads read neighbouring bytes of a row, whatever its width.
 */
import type { RowLayout } from '../layout.ts';
import { rowReader, shardBindings, type Shards } from './decode.ts';
import { declare, main, type Binding } from './head.ts';

export interface SegmentSum {
  /** What is summed: rows of a table, or those of a matrix. */
  readonly of: { readonly layout: RowLayout; readonly shards: Shards } | 'matrix';
  /** Whether place p has item `list[p]`, else p. */
  readonly listed: boolean;
  /** Whether item x stands for row `through[x]`, else x; `nothing` for none. */
  readonly through: boolean;
  readonly weighted: boolean;
  /** Whether the sums are added to what is there. */
  readonly adds: boolean;
}

/** In `through`: an item that is not summed. */
export const nothing = 0xffffffff;

/** Bindings: offsets, sums, then where it has them list, through and weights, then the matrix or the shards. */
export function segmentSum({ of, listed, through, weighted, adds }: SegmentSum): string {
  const rows = of !== 'matrix';
  const bindings: Binding[] = [
    { name: 'offsets', type: 'u32' },
    { name: 'sums', type: 'vec4f', written: true },
    ...(listed ? [{ name: 'list', type: 'u32' }] : []),
    ...(through ? [{ name: 'through', type: 'u32' }] : []),
    ...(weighted ? [{ name: 'weights', type: 'f32' }] : []),
    ...(rows ? shardBindings(of.layout, of.shards) : [{ name: 'values', type: 'vec4f' }]),
  ];
  const item = listed ? 'list[place]' : 'place';
  // A matrix has as many columns as its sums, whatever they are; those of a table are a constant.
  const quads = rows ? `${of.layout.quads}u` : 'arrayLength(&sums) / (arrayLength(&offsets) - 1u)';
  // With several shards, every load is as many: compiling takes its time.
  const together = rows && of.shards.count > 1 ? 2 : 4;
  const terms = ['a', 'b', 'c', 'd'].slice(0, together);
  const row = through ? `through[${item}]` : item;
  const here = rows ? (of.shards.all ? null : 'row_here(row)') : through ? `row != ${nothing}u` : null;
  const value = `${weighted ? 'weights[place] * ' : ''}${rows ? 'row_quad(row, quad)' : 'values[row * quads + quad]'}`;
  return `${declare(bindings)}
${rows ? rowReader(of.layout, of.shards) : ''}
fn term(asked: u32, end: u32, quad: u32, quads: u32) -> vec4f {
  // Past the end, the last one again rather than a branch, so that no load waits for another.
  let place = min(asked, end - 1u);
  let row = ${row};
${here === null ? '' : `  if !(${here}) { return vec4f(); }\n`}  return select(vec4f(), ${value}, place == asked);
}
${main(`  if i >= arrayLength(&sums) { return; }
  let quads = ${quads};
  let segment = i / quads;
  let quad = i % quads;
  let end = offsets[segment + 1u];
  var place = offsets[segment];
  var sum = ${adds ? 'sums[i]' : 'vec4f()'};
  // Loads that are under way together; the order of additions is that of the list all the same.
  for (; place < end; place += ${together}u) {
${terms.map((x, k) => `    let ${x} = term(place + ${k}u, end, quad, quads);`).join('\n')}
    sum = ${terms.reduce((sum, x) => `(${sum} + ${x})`, 'sum')};
  }
  sums[i] = sum;`)}`;
}
