/** The logistic loss, safe for scores of any size. */

/** log(1 + e^x): the loss of score -x for what is true, and of x for what is not. */
export const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
