/** Features: columns in, one bag of ids per example out. */
import { FinetableError, type Jagged } from '@finetable/core';
import { isBadValue, show } from '../errors.ts';
import { IdList } from '../id-list.ts';
import type { Records } from '../source/source.ts';
import type { FeatureSpec } from '../spec.ts';
import { hashEncoder } from './hash.ts';
import { integerEncoder } from './integers.ts';
import { lookupEncoder } from './lookup.ts';
import { ngramEncoder } from './ngrams.ts';
import { tokenizerEncoder } from './tokenizer.ts';
import { compileWeights } from './weights.ts';
import { wordEncoder } from './words.ts';

/** One feature, compiled once per thread: vocabulary, pattern and scratch memory are kept between batches. */
export interface FeatureExtractor {
  /**
   * One bag per record, every id in [0, rows of the table). The arrays are new.
   * @throws INVALID_DATA, ID_OUT_OF_RANGE, naming file, line and column
   */
  readonly extract: (records: Records) => Jagged;
  /** Whether ids have weights. */
  readonly weighted: boolean;
}

/** Appends the ids of record i. @throws INVALID_DATA, ID_OUT_OF_RANGE, leaving any number of them */
export type Encoder = (records: Records, i: number, out: IdList) => void;

/**
 * @param rows of its table
 * @param name for errors
 * @throws NOT_FOUND, IO, INVALID_FILE for its vocabulary; UNSUPPORTED for its tokenizer; INVALID_ARGUMENT for its default
 */
export function compileFeature(spec: FeatureSpec, rows: number, name: string): FeatureExtractor {
  const encode = encoderOf(spec, rows);
  const weigh = compileWeights(spec);
  const ids = new IdList();
  const defaultIds = spec.default === undefined ? null : encodeDefault(encode, spec, name);

  return {
    weighted: weigh !== null,
    extract: (records) => {
      const bags = records.lines.length;
      const offsets = new Int32Array(bags + 1);
      ids.clear();
      for (let i = 0; i < bags; i++) {
        if (defaultIds === null) encode(records, i, ids);
        else encodeOr(encode, defaultIds, records, i, ids);
        offsets[i + 1] = ids.length;
      }
      const values = ids.copy();
      return weigh ? { values, offsets, weights: weigh(records, values, offsets) } : { values, offsets };
    },
  };
}

function encoderOf(spec: FeatureSpec, rows: number): Encoder {
  const encode = encoderOfAll(spec, rows);
  const { last } = spec;
  if (last === undefined) return encode;
  return (records, i, out) => {
    const before = out.length;
    encode(records, i, out);
    const extra = out.length - before - last;
    if (extra <= 0) return;
    out.ids.copyWithin(before, before + extra, out.length);
    out.truncate(before + last);
  };
}

function encoderOfAll(spec: FeatureSpec, rows: number): Encoder {
  const { tokens, ngrams, lookup, hash } = spec;
  if (tokens)
    return tokens.tokenizer === undefined ? wordEncoder(spec, tokens, rows) : tokenizerEncoder(spec, tokens, rows);
  if (ngrams) return ngramEncoder(spec, ngrams, rows);
  if (lookup) return lookupEncoder(spec, lookup, rows);
  if (hash) return hashEncoder(spec, hash, rows);
  return integerEncoder(spec, rows);
}

function encodeOr(encode: Encoder, otherwise: Int32Array, records: Records, i: number, ids: IdList): void {
  const before = ids.length;
  try {
    encode(records, i, ids);
  } catch (error) {
    if (!isBadValue(error)) throw error;
    ids.truncate(before);
    const first = ids.extend(otherwise.length);
    ids.ids.set(otherwise, first);
  }
}

function encodeDefault(encode: Encoder, spec: FeatureSpec, name: string): Int32Array {
  const columns = new Map([spec.column, ...(spec.hash?.crossWith ?? [])].map((column) => [column, [spec.default]]));
  const record: Records = {
    files: ['default'],
    fileOf: null,
    values: 'json',
    unit: 'row',
    lines: Float64Array.of(1),
    columns,
    sizeBytes: 0,
  };
  const ids = new IdList();
  try {
    encode(record, 0, ids);
  } catch (error) {
    if (!isBadValue(error)) throw error;
    const path = `features.${name}.default`;
    const reason = error.message.replace(/^default, row 1, column "[^]*?": /, '');
    throw new FinetableError('INVALID_ARGUMENT', `${path}: ${reason}`, { path, found: show(spec.default) });
  }
  return ids.copy();
}
