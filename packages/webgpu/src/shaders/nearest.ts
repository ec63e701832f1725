/** Scores of rows, and the best of every block of them. */
import { groupThreads } from '../gpu.ts';
import type { RowLayout } from '../layout.ts';
import { rowReader, shardBindings, type Shards } from './decode.ts';
import { declare } from './head.ts';

/** Rows that a workgroup ranks: one a thread. */
export const rankedRows = groupThreads;

/** Queries that meet a row each time it is read. */
export const queriesTogether = 4;

/**
 * Each workgroup scores a block of rows for four queries, sorts them, and writes the best. What is sorted is integers, since shaders need not treat NaN as
 * such: (row, order), where ascending order is descending score, -0 is 0 and NaN is last. Read as 64 bits, the lower is the better.
 *
 * Bindings: asked (`[first row, end, blocks, kept of a block, D in fours, rankedRows, queriesTogether]`), queries (a multiple of four of them), found (`[q, blocks, kept]`), the shards.
 * Queries for cosine are of length 1, or 0. How often loops run is told by `asked` even where it never changes: compilers would unroll the whole sort, which
 * takes some of them seconds.
 */
export function nearest(layout: RowLayout, shards: Shards, metric: 'dot' | 'cosine'): string {
  return `${declare([
    { name: 'asked', type: 'u32' },
    { name: 'queries', type: 'vec4f' },
    { name: 'found', type: 'vec2u', written: true },
    ...shardBindings(layout, shards),
  ])}
${rowReader(layout, shards)}
${metric === 'dot' ? dot : cosine}
var<workgroup> ranked: array<vec2u, ${rankedRows}>;
fn entry(row: u32, score: f32) -> vec2u {
  let bits = bitcast<u32>(score);
  if row >= asked[1] || (bits & 0x7fffffffu) > 0x7f800000u { return vec2u(select(row, 0xffffffffu, row >= asked[1]), 0xffffffffu); }
  return vec2u(row, select(~bits & 0x7fffffffu, bits, bits > 0x80000000u));
}
fn is_before(a: vec2u, b: vec2u) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }
@compute @workgroup_size(${groupThreads})
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let blocks = asked[2];
  let kept = asked[3];
  let task = group.x + group.y * groups.x;
  let block = task % blocks;
  let first = ${queriesTogether}u * (task / blocks);
  if first * asked[4] >= arrayLength(&queries) { return; }
  let row = asked[0] + block * ${rankedRows}u + thread;
  let all = scores(min(row, asked[1] - 1u), first);
  for (var query = 0u; query < asked[6]; query++) {
    ranked[thread] = entry(row, all[query]);
    // A bitonic sort.
    for (var size = 2u; size <= asked[5]; size *= 2u) {
      for (var step = size / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        let other = thread ^ step;
        if other > thread {
          let a = ranked[thread];
          let b = ranked[other];
          if is_before(b, a) == ((thread & size) == 0u) {
            ranked[thread] = b;
            ranked[other] = a;
          }
        }
      }
    }
    workgroupBarrier();
    let to = ((first + query) * blocks + block) * kept;
    if thread < kept { found[to + thread] = ranked[thread]; }
    workgroupBarrier();
  }
}`;
}

/** The products of a row's fours, `e`, with four queries. */
const products = `let q = first * quads + quad;
    sums += vec4f(dot(queries[q], e), dot(queries[q + quads], e), dot(queries[q + 2u * quads], e), dot(queries[q + 3u * quads], e));`;

const dot = `
fn scores(row: u32, first: u32) -> vec4f {
  let quads = asked[4];
  var sums = vec4f();
  for (var quad = 0u; quad < quads; quad++) {
    let e = row_quad(row, quad);
    ${products}
  }
  return sums;
}`;

/** Squares of very large or small numbers are no f32: such rows are scaled and added up again. As in the kernels, |e| < 2^-126 is 0. */
const cosine = `
fn scores(row: u32, first: u32) -> vec4f {
  let quads = asked[4];
  var factor = 1.0;
  loop {
    var sums = vec4f();
    var square = 0.0;
    for (var quad = 0u; quad < quads; quad++) {
      let e = factor * row_quad(row, quad);
      ${products}
      square += dot(e, e);
    }
    if factor != 1.0 || (square > 0x1p-64f && square < 0x1p96f) { return select(sums / sqrt(square), vec4f(), square < 0x1p-92f); }
    factor = select(0x1p80f, 0x1p-80f, square > 1.0);
  }
}`;
