/** The errors of data files: each names the file, and the line and column where there are any. */
import { FinetableError, isFinetableError, type ErrorDetails } from '@finetable/core';

export interface Place {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly column?: string;
  /** What `line` counts, where the source has no lines. */
  readonly unit?: 'row';
}

export function describePlace({ file, line, column, unit }: Place): string {
  return `${file}, ${unit ?? 'line'} ${line}${column === undefined ? '' : `, column ${JSON.stringify(column)}`}`;
}

export function invalidData(place: Place, message: string, details: ErrorDetails = {}): FinetableError {
  if (counting) return someBadValue;
  return new FinetableError('INVALID_DATA', `${describePlace(place)}: ${message}`, { ...place, ...details });
}

/** Of values that are only counted: to describe each, and where it was found, takes longer than to read the row. */
const someBadValue = new FinetableError('INVALID_DATA', 'a bad value');
let counting = false;

/** Whether what is wrong with a value is not asked for. */
export function isCounting(): boolean {
  return counting;
}

/** `work`, up to its first wait, with errors of bad values that do not say what they are. */
export function onlyCounting<T>(work: () => T): T {
  const before = counting;
  counting = true;
  try {
    return work();
  } finally {
    counting = before;
  }
}

/** What a bad value of a record throws, or a record that cannot be read; nothing else does. */
export function isBadValue(error: unknown): error is FinetableError {
  return isFinetableError(error) && (error.code === 'INVALID_DATA' || error.code === 'ID_OUT_OF_RANGE');
}

/** A value as people can read it in a message; long ones are cut. */
export function show(value: unknown): string {
  if (counting) return '';
  const text = typeof value === 'bigint' ? String(value) : (JSON.stringify(value, showBigInt) ?? String(value));
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

const showBigInt = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value);

/** Names for a message, the first 20 of them. */
export function showNames(names: readonly string[]): string {
  if (names.length === 0) return 'none';
  const shown = names.slice(0, 20).map((name) => show(name));
  return names.length > 20 ? `${shown.join(', ')} and ${names.length - 20} more` : shown.join(', ');
}

/** What the operating system said about a file, as an error of ours. */
export function fileError(error: unknown, file: string): FinetableError {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new FinetableError('NOT_FOUND', `${file}: no such file`, { file }, { cause: error });
  }
  return new FinetableError('IO', `${file}: cannot be read: ${message}`, { file }, { cause: error });
}

/** For long work on the caller's own thread, between its steps. */
export function throwIfStopped(signal: AbortSignal | undefined, file: string): void {
  if (signal?.aborted) throw interrupted(file);
}

export function interrupted(file: string): FinetableError {
  return new FinetableError('INTERRUPTED', `${file}: reading was stopped by its signal`, { file });
}
