/**
 * The products with B of a delta, `[r, D]`: forwards, backwards, and of its own gradient. Matrices are filled up to fours of columns, B also to fours of
 * rows, with 0. D is a constant of a shader; ranks are told from the lengths of arrays, so that no rank needs shaders of its own.
 *
 * @param quads D in fours
 */
import { declare, main } from './head.ts';

const before = { name: 'before', type: 'vec4f' };
const pooled = { name: 'pooled', type: 'vec4f' };
const b = { name: 'b', type: 'vec4f' };
const e = { name: 'e', type: 'vec4f', written: true };
const gradient = { name: 'gradient', type: 'vec4f' };

/** E = before + Ā B. Bindings: before, Ā, B, E; without `before`, E is added to. */
export function addProduct(quads: number, adds: boolean): string {
  return `${declare([...(adds ? [] : [before]), pooled, b, e])}
${main(`  if i >= arrayLength(&e) { return; }
  let ranks = arrayLength(&b) / ${4 * quads}u;
  let bag = i / ${quads}u;
  var sum = ${adds ? 'e' : 'before'}[i];
  var row = i % ${quads}u;
  for (var k = 0u; k < ranks; k++) {
    let a = pooled[bag * ranks + k];
    sum += a.x * b[row] + a.y * b[row + ${quads}u] + a.z * b[row + ${2 * quads}u] + a.w * b[row + ${3 * quads}u];
    row += ${4 * quads}u;
  }
  e[i] = sum;`)}`;
}

/** E = before + Ā, where B is the identity. Bindings: before, Ā, E; without `before`, E is added to. */
export function addPooled(adds: boolean): string {
  return `${declare([...(adds ? [] : [before]), pooled, e])}
${main(`  if i >= arrayLength(&e) { return; }
  e[i] = ${adds ? 'e' : 'before'}[i] + pooled[i];`)}`;
}

/** P = g Bᵀ, `[b, r]`. Bindings: g, B, P. */
export function project(quads: number): string {
  return `${declare([gradient, b, { name: 'projected', type: 'vec4f', written: true }])}
${main(`  if i >= arrayLength(&projected) { return; }
  let ranks = arrayLength(&b) / ${4 * quads}u;
  let bag = i / ranks;
  let first = i % ranks * ${4 * quads}u;
  var sum = vec4f();
  // D in fours, as no constant: compilers would unroll all of the loop, which takes some of them seconds.
  let count = arrayLength(&b) / (4u * ranks);
  for (var quad = 0u; quad < count; quad++) {
    let g = gradient[bag * ${quads}u + quad];
    let row = first + quad;
    sum += vec4f(dot(g, b[row]), dot(g, b[row + ${quads}u]), dot(g, b[row + ${2 * quads}u]), dot(g, b[row + ${3 * quads}u]));
  }
  projected[i] = sum;`)}`;
}

/** Fewest bags of a piece, and most pieces of a batch: B's gradient takes so many times B meanwhile. */
const fewestBags = 64;
const mostPieces = 256;

export const pieceBags = (bags: number): number => Math.max(fewestBags, Math.ceil(bags / mostPieces));

/**
 * Āᵀ g over pieces of `pieceBags` bags, `[pieces, r, D]`; to be summed over the pieces. A thread has four columns of four rows, so g is read once
 * for four ranks. Bindings: Ā, g, products.
 */
export function outerProducts(quads: number): string {
  return `${declare([pooled, gradient, { name: 'products', type: 'vec4f', written: true }])}
${main(`  if 4u * i >= arrayLength(&products) { return; }
  let bags = arrayLength(&gradient) / ${quads}u;
  let ranks = arrayLength(&pooled) / bags;
  let each = max(${fewestBags}u, (bags + ${mostPieces - 1}u) / ${mostPieces}u);
  let quad = i % ${quads}u;
  let k = i / ${quads}u % ranks;
  let piece = i / (${quads}u * ranks);
  let end = min((piece + 1u) * each, bags);
  var x = vec4f();
  var y = vec4f();
  var z = vec4f();
  var w = vec4f();
  for (var bag = piece * each; bag < end; bag++) {
    let a = pooled[bag * ranks + k];
    let g = gradient[bag * ${quads}u + quad];
    x += a.x * g;
    y += a.y * g;
    z += a.z * g;
    w += a.w * g;
  }
  let row = 4u * (piece * ranks + k) * ${quads}u + quad;
  products[row] = x;
  products[row + ${quads}u] = y;
  products[row + ${2 * quads}u] = z;
  products[row + ${3 * quads}u] = w;`)}`;
}
