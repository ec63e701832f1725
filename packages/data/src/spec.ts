/** What to read and what to make of it. */
export type * from './spec/data.ts';
export type * from './spec/features.ts';
export type * from './spec/options.ts';
export type * from './spec/source.ts';
