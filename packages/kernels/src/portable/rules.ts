/** The formula of every rule (see form.ts) over one stretch of parameters. Arithmetic in f64, rounded to f32 where stored. */
import type { RuleForm } from '../form.ts';

/** `length` parameters at `w[wAt ..]`, their momentum, and their squares: one each, or one for all of them. */
export interface Stretch {
  w: Float32Array;
  wAt: number;
  m: Float32Array;
  mAt: number;
  h: Float32Array;
  hAt: number;
  length: number;
}

/** Mean of the squared gradients, L2 decay included. */
function meanSquare(x: Stretch, l2: number, g: Float32Array, gAt: number): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += (g[gAt + i]! + l2 * x.w[x.wAt + i]!) ** 2;
  return x.length === 0 ? 0 : sum / x.length;
}

/** One step with gradient `g[gAt ..]`. @param numbers rate, decay and root of the step, from `at` on */
export function applyForm(
  form: RuleForm,
  numbers: Float32Array | Float64Array,
  at: number,
  x: Stretch,
  g: Float32Array,
  gAt: number,
): void {
  const { w, wAt, m, mAt, h, hAt, length } = x;
  const { momentum, squares, l2, epsilon, keepMomentum, restMomentum, keepSquares, restSquares } = form;
  const [rate, decay, root] = [numbers[at]!, numbers[at + 1]!, numbers[at + 2]!];
  if (squares === 'row') h[hAt] = keepSquares * h[hAt]! + restSquares * meanSquare(x, l2, g, gAt);
  let divisor = squares === 'row' ? Math.sqrt(h[hAt]!) * root + epsilon : 1;
  for (let i = 0; i < length; i++) {
    const before = w[wAt + i]!;
    let gradient = g[gAt + i]! + l2 * before;
    if (squares === 'element') {
      h[hAt + i] = keepSquares * h[hAt + i]! + restSquares * gradient * gradient;
      divisor = Math.sqrt(h[hAt + i]!) * root + epsilon;
    }
    if (momentum) gradient = m[mAt + i] = keepMomentum * m[mAt + i]! + restMomentum * gradient;
    w[wAt + i] = before - (decay * before + (rate * gradient) / divisor);
  }
}
