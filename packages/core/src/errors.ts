/**
 * Every error that Finetable raises on purpose is a {@link FinetableError}: a `code` for programs, a message for people
 * (where, what was found, what is allowed, a remedy), and `details` with the same facts as fields.
 */

export const errorCodes = [
  /** A value passed by the calling program is wrong. */
  'INVALID_ARGUMENT',
  /** A job file is wrong; `details.path` names the field. */
  'INVALID_JOB',
  /** A row of a data file is wrong; `details` names file and line. */
  'INVALID_DATA',
  /** A file is not what it claims to be (format, shape, checksum). */
  'INVALID_FILE',
  /** An id is negative or not below the number of rows of its table. */
  'ID_OUT_OF_RANGE',
  /** NaN or infinity where a number is needed. */
  'NON_FINITE',
  /** An adapter, checkpoint or table belongs to something else. */
  'MISMATCH',
  /** A file or folder that was named does not exist. */
  'NOT_FOUND',
  /** Something is already there, and would be overwritten. */
  'EXISTS',
  /** Another run holds the folder. */
  'LOCKED',
  /** The operating system refused to read or write (disk full, permissions). */
  'IO',
  /** A plan does not fit into the memory it is allowed; `details` has what is short, and `remedies`. Nothing was opened. */
  'DOES_NOT_FIT',
  /** Memory could not be had. */
  'OUT_OF_MEMORY',
  /** A worker thread threw, exited or ran out of memory. */
  'WORKER_FAILED',
  /** Used after `close()`. */
  'CLOSED',
  /** Stopped by a signal or an `AbortSignal`; a checkpoint was written. */
  'INTERRUPTED',
  /** This build or machine cannot do what was asked for. */
  'UNSUPPORTED',
] as const;

/** One of {@link errorCodes}: what a program may act on. */
export type ErrorCode = (typeof errorCodes)[number];

/** Facts of an error as fields: `file`, `line`, `column`, `path`, `tensor`, `table`, `id`, … JSON values only, so that they cross threads. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | null | readonly (string | number)[]>>;

/** Every error that Finetable throws on purpose: `code` says what kind, `details` has names, places and numbers, the message what to do. */
export class FinetableError extends Error {
  override readonly name = 'FinetableError';
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.details = details;
  }
}

/** True for errors of ours, also for those made by another copy of this package. */
export function isFinetableError(error: unknown): error is FinetableError {
  return error instanceof Error && error.name === 'FinetableError' && 'code' in error;
}

/** An error as plain data. A thrown error loses class and fields on its way out of a worker thread; this does not. */
export interface PlainError {
  readonly code: ErrorCode | null;
  readonly message: string;
  readonly details: ErrorDetails;
  readonly stack: string;
}

/** An error as an object that can be sent to another thread or written as JSON; of others `code` is null. */
export function toPlainError(error: unknown): PlainError {
  if (isFinetableError(error)) {
    return { code: error.code, message: error.message, details: error.details, stack: error.stack ?? '' };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: null, message, details: {}, stack: error instanceof Error ? (error.stack ?? '') : '' };
}

/** The error again. One that was not ours becomes `fallback`, its first message kept. */
export function fromPlainError(plain: PlainError, fallback: ErrorCode = 'WORKER_FAILED'): FinetableError {
  const error = new FinetableError(plain.code ?? fallback, plain.message, plain.details);
  if (plain.stack !== '') error.stack = plain.stack;
  return error;
}
