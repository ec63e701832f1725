import { describe, expect, it } from 'vitest';
import { errorCodes, FinetableError, fromPlainError, isFinetableError, toPlainError } from './errors.ts';

describe('FinetableError', () => {
  it('has code, message, details and cause', () => {
    const cause = new Error('disk');
    const error = new FinetableError('IO', 'cannot write', { file: 'a' }, { cause });
    expect(error).toBeInstanceOf(Error);
    expect([error.name, error.code, error.message, error.details, error.cause]).toEqual([
      'FinetableError',
      'IO',
      'cannot write',
      { file: 'a' },
      cause,
    ]);
    expect(new FinetableError('IO', 'm').details).toEqual({});
  });

  it('is known from other errors, also when made by another copy', () => {
    expect(isFinetableError(new FinetableError('IO', 'm'))).toBe(true);
    expect(isFinetableError(Object.assign(new Error('m'), { name: 'FinetableError', code: 'IO', details: {} }))).toBe(
      true,
    );
    for (const other of [
      new Error('m'),
      Object.assign(new Error('m'), { code: 'ENOENT' }),
      { name: 'FinetableError', code: 'IO' },
      null,
      undefined,
      'IO',
    ]) {
      expect(isFinetableError(other)).toBe(false);
    }
  });
});

describe('plain errors', () => {
  it.each(errorCodes)('carry %s across threads', (code) => {
    const error = new FinetableError(code, 'at a.jsonl:3', {
      file: 'a.jsonl',
      line: 3,
      found: null,
      ok: false,
      allowed: [1, 'x'],
    });
    const back = fromPlainError(structuredClone(toPlainError(error)));
    expect(back).toBeInstanceOf(FinetableError);
    expect([back.code, back.message, back.details, back.stack]).toEqual([
      error.code,
      error.message,
      error.details,
      error.stack,
    ]);
  });

  it('carry what was not ours as the fallback, message and stack kept', () => {
    const error = new TypeError('x is not a function');
    const plain = structuredClone(toPlainError(error));
    expect(plain).toEqual({ code: null, message: 'x is not a function', details: {}, stack: error.stack });
    expect(fromPlainError(plain)).toMatchObject({
      code: 'WORKER_FAILED',
      message: 'x is not a function',
      stack: error.stack,
    });
    expect(fromPlainError(plain, 'IO').code).toBe('IO');
  });

  it.each(['text', 7, null, undefined])('carry a thrown %j, with a stack of its own', (thrown) => {
    const back = fromPlainError(structuredClone(toPlainError(thrown)));
    expect(back).toMatchObject({ code: 'WORKER_FAILED', message: String(thrown) });
    expect(back.stack).toContain('fromPlainError');
  });
});
