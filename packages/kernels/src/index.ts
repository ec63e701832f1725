/**
 * Lookup, delta, gradient and optimiser kernels behind one interface.
 * @module
 */
export type * from './kernels.ts';
