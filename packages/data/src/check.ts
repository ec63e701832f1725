/** Checks of what the caller passes, before anything is opened; and the defaults. */
import { show, showNames } from './errors.ts';
import { checkCounts, checkFeature } from './feature/check.ts';
import { historyColumns } from './histories/columns.ts';
import { checkLabel, checkNumbers } from './check-values.ts';
import { mostNegatives } from './negatives.ts';
import { checkInteger, checkNumber, checkOneOf, refuse } from './refuse.ts';
import { formatOf } from './source/source.ts';
import { timeOf } from './source/times.ts';
import type { DataSpec, HistoriesSpec, NegativesSpec, SourceSpec, SplitSpec, TimeSplit } from './spec.ts';

/** @throws INVALID_ARGUMENT whose `details.path` names the field */
export function checkData(data: DataSpec): void {
  checkSource(data.source);
  if (data.split) checkSplit(data.split);
  if (data.histories) checkHistories(data.histories);
  else if (data.split?.leaveOut !== undefined)
    throw refuse('split.leaveOut', data.split.leaveOut, 'only with histories');
  for (const [name, { rows }] of Object.entries(data.tables)) checkInteger(`tables.${name}.rows`, rows, 1, 2 ** 31 - 1);
  for (const [name, spec] of Object.entries(data.features)) checkFeature(`features.${name}`, spec, data.tables);
  for (const [name, spec] of Object.entries(data.negatives ?? {})) checkNegatives(name, spec, data);
  for (const [name, spec] of Object.entries(data.labels)) checkLabel(`labels.${name}`, spec);
  for (const [name, spec] of Object.entries(data.numbers ?? {})) checkNumbers(`numbers.${name}`, spec);
  if (data.weight?.default !== undefined) checkNumber('weight.default', data.weight.default, 0);
  const { badRows = 'error' } = data;
  if (typeof badRows === 'object') {
    if (badRows.skip !== Infinity) checkInteger('badRows.skip', badRows.skip, 0, Number.MAX_SAFE_INTEGER);
  } else checkOneOf('badRows', badRows, ['error']);
}

function checkSource(source: SourceSpec): void {
  if (source.rows !== undefined) {
    const { rows } = source;
    const iterable =
      typeof rows === 'object' && rows !== null && (Symbol.iterator in rows || Symbol.asyncIterator in rows);
    if (!iterable && typeof rows !== 'function')
      throw refuse('source.rows', rows, 'an array, an iterable or a function');
    return;
  }
  const { file, columns, delimiter } = source;
  const files = typeof file === 'string' ? [file] : file;
  if (!Array.isArray(files) || files.length === 0 || files.some((name) => typeof name !== 'string' || name === ''))
    throw refuse('source.file', file, 'a path, or a list of them');
  const formats = new Set(files.map((name) => formatOf(name, source)));
  if (formats.size > 1) throw refuse('source.file', [...formats], 'files of one format');
  const separated = formats.has('csv') || formats.has('tsv');
  if (columns !== undefined) {
    if (!separated) throw refuse('source.columns', columns, 'only for csv and tsv');
    if (columns.length === 0 || new Set(columns).size < columns.length)
      throw refuse('source.columns', columns, 'names, each once');
  }
  if (delimiter !== undefined) {
    if (!separated) throw refuse('source.delimiter', delimiter, 'only for csv and tsv');
    if (delimiter.length !== 1 || /["\r\n]/.test(delimiter))
      throw refuse('source.delimiter', delimiter, 'one character, and no quote or line end');
  }
}

function checkSplit(split: SplitSpec): void {
  if (split.time) checkTimes(split);
  else if (split.leaveOut !== undefined) {
    checkOneOf('split.leaveOut', split.leaveOut, ['train', 'validation', 'test']);
    checkInteger('split.count', split.count ?? 1, 1, 2 ** 31 - 1);
  } else {
    const { part, parts, seed = 0 } = split;
    if (parts.length < 2 || parts.some((size) => !Number.isFinite(size) || size <= 0))
      throw refuse('split.parts', parts, 'two or more numbers above 0');
    checkInteger('split.part', part, 0, parts.length - 1);
    checkInteger('split.seed', seed, 0, 2 ** 32 - 1);
  }
}

function checkHistories({ window, minimum = 1, user, item, list }: HistoriesSpec): void {
  checkInteger('histories.window', window, 1, 2 ** 31 - 1);
  checkInteger('histories.minimum', minimum, 0, 2 ** 31 - 1);
  if ((list === undefined) === (user === undefined))
    throw refuse('histories', { user, list }, 'user, item and time; or list');
  const taken = Object.values<string>(historyColumns);
  for (const [name, column] of Object.entries({ user, item }))
    if (column !== undefined && taken.includes(column))
      throw refuse(`histories.${name}`, column, `columns beside those that histories make: ${showNames(taken)}`);
}

function checkNegatives(
  name: string,
  { of, count, distribution }: NegativesSpec,
  { features, tables }: DataSpec,
): void {
  const path = `negatives.${name}`;
  if (Object.hasOwn(features, name)) throw refuse(path, name, 'names that no feature has');
  if (!Object.hasOwn(features, of)) throw refuse(`${path}.of`, of, showNames(Object.keys(features)));
  checkInteger(`${path}.count`, count, 1, mostNegatives);
  if (typeof distribution === 'object') {
    checkNumber(`${path}.distribution.exponent`, distribution.exponent ?? 1, 0);
    checkCounts(`${path}.distribution.counts`, distribution.counts, features[of]!, tables[features[of]!.table]!.rows);
  } else checkOneOf(`${path}.distribution`, distribution ?? 'uniform', ['uniform']);
}

function checkTimes({ time: { from, to } }: TimeSplit): void {
  const [low, high] = Object.entries({ from, to }).map(([name, bound]) => {
    const found = bound === undefined ? null : timeOf(bound);
    if (bound !== undefined && !found) throw refuse(`split.time.${name}`, bound, 'a number or an ISO 8601 date');
    return found;
  });
  if (!low && !high) throw refuse('split.time', 'neither from nor to', 'one of them, or both');
  if (low && high && (low.kind !== high.kind || low.value >= high.value))
    throw refuse('split.time.to', to, `what comes after ${show(from)}`);
}
