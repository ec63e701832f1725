/** Rows of a table in shaders: which buffer has a row, and what its stored bits stand for; the same for every shader that reads rows. */
import type { RowDtype } from '@finetable/core';
import type { RowLayout } from '../layout.ts';
import type { Binding } from './head.ts';

/** Rows `[i * shardRows, (i + 1) * shardRows)` lie in shard i; of those, a shader sees `count` from `first` on. */
export interface Shards {
  readonly shardRows: number;
  readonly first: number;
  readonly count: number;
  /** Whether these are all of the table. */
  readonly all: boolean;
}

/** What one load brings: four columns where a scale does not break their alignment, else a word. */
const loads: Readonly<Record<RowDtype, { readonly type: string; readonly words: number }>> = {
  f32: { type: 'vec4f', words: 4 },
  f16: { type: 'vec2u', words: 2 },
  bf16: { type: 'vec2u', words: 2 },
  int8: { type: 'u32', words: 1 },
  int4: { type: 'u32', words: 1 },
};

/** Signed integers in the highest bits of four words. */
const signed = (words: string, bits: number): string => `vec4f(vec4i(${words}) >> vec4u(${32 - bits}u))`;

/** Four columns from `x`, which four they are is `quad`. */
const decoders: Readonly<Record<RowDtype, string>> = {
  f32: 'x',
  f16: 'vec4f(unpack2x16float(x.x), unpack2x16float(x.y))',
  bf16: 'bitcast<vec4f>(vec4u(x.x << 16u, x.x & 0xffff0000u, x.y << 16u, x.y & 0xffff0000u))',
  int8: signed('vec4u(x << 24u, x << 16u, x << 8u, x)', 8),
  // The lower half of a word has the first of its two fours.
  int4: signed('vec4u(x) << select(vec4u(28u, 24u, 20u, 16u), vec4u(12u, 8u, 4u, 0u), (quad & 1u) == 1u)', 4),
};

/** The bindings of the shards. */
export function shardBindings({ format }: RowLayout, { count }: Shards): Binding[] {
  return Array.from({ length: count }, (_, shard) => ({ name: `shard${shard}`, type: loads[format.dtype].type }));
}

/**
 * `row_quad(row, quad)`: four columns of a row, as f32; and `row_here(row)`: whether one of the shader's shards has the row.
 */
export function rowReader(layout: RowLayout, { shardRows, first, count }: Shards): string {
  const { format, rowWords } = layout;
  const { type, words } = loads[format.dtype];
  const stride = rowWords / words;
  const perLoad = format.dtype === 'int4' ? 2 : 1;
  const cases = Array.from({ length: count }, (_, shard) => `    case ${shard}u: { return shard${shard}[at]; }`);
  // A shader cannot index its bindings, so it has a case for each.
  const load =
    count === 1
      ? `fn load(shard: u32, at: u32) -> ${type} { return shard0[at]; }`
      : `fn load(shard: u32, at: u32) -> ${type} {
  switch shard {
${cases.join('\n')}
    default: { return ${type}(); }
  }
}`;
  return `
${load}
fn row_here(row: u32) -> bool { return row / ${shardRows}u - ${first}u < ${count}u; }
fn row_quad(row: u32, quad: u32) -> vec4f {
  let shard = row / ${shardRows}u - ${first}u;
  let begin = (row % ${shardRows}u) * ${stride}u;
  let x = load(shard, begin + quad / ${perLoad}u);
  return ${decoders[format.dtype]}${scaleOf(layout)};
}`;
}

/** Times the scale of the columns; a word of the row like its elements. Groups are whole fours of columns, or the row. */
function scaleOf({ format: { groupDims }, scales, scaleWord }: RowLayout): string {
  if (scales === 0) return '';
  const index = scales === 1 ? '0u' : `4u * quad / ${groupDims}u`;
  return ` * bitcast<f32>(load(shard, begin + ${scaleWord}u + ${index}))`;
}
