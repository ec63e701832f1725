/** The inner loops: rows, weighted and added to a row of a matrix. */

/** `y[yAt + i] += w * x[xAt + i]`, rounded to f32 at each addition. */
export function addScaled(y: Float32Array, yAt: number, x: Float32Array, xAt: number, w: number, length: number): void {
  for (let i = 0; i < length; i++) y[yAt + i]! += w * x[xAt + i]!;
}

/** `y[yAt + i] += Σ w x`, rounded to f32 once. */
export function addFour(
  y: Float32Array,
  yAt: number,
  length: number,
  x0: Float32Array,
  at0: number,
  w0: number,
  x1: Float32Array,
  at1: number,
  w1: number,
  x2: Float32Array,
  at2: number,
  w2: number,
  x3: Float32Array,
  at3: number,
  w3: number,
): void {
  for (let i = 0; i < length; i++) {
    y[yAt + i] = y[yAt + i]! + w0 * x0[at0 + i]! + w1 * x1[at1 + i]! + w2 * x2[at2 + i]! + w3 * x3[at3 + i]!;
  }
}

/**
 * A row of a matrix product: `y[yAt ..] += scale · Σ_k x[xAt + k xStep] · b[k cols ..]` for k below `count`, four rows of b
 * at a time.
 */
export function addProduct(
  y: Float32Array,
  yAt: number,
  x: Float32Array,
  xAt: number,
  xStep: number,
  count: number,
  b: Float32Array,
  cols: number,
  scale: number,
): void {
  let k = 0;
  for (; k + 4 <= count; k += 4) {
    const [from, at] = [xAt + k * xStep, k * cols];
    addFour(
      y,
      yAt,
      cols,
      b,
      at,
      scale * x[from]!,
      b,
      at + cols,
      scale * x[from + xStep]!,
      b,
      at + 2 * cols,
      scale * x[from + 2 * xStep]!,
      b,
      at + 3 * cols,
      scale * x[from + 3 * xStep]!,
    );
  }
  for (; k < count; k++) addScaled(y, yAt, b, k * cols, scale * x[xAt + k * xStep]!, cols);
}
