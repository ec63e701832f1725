import { errorCodes, FinetableError } from '@finetable/core';
import { afterEach, expect, test, vi } from 'vitest';
import { reportFailure, statusOf } from './failure.ts';
import { Captured } from './testing/capture.ts';

afterEach(() => vi.unstubAllEnvs());

function report(error: unknown, json: boolean) {
  const io = { stdout: new Captured(), stderr: new Captured(), signal: new AbortController().signal };
  const status = reportFailure(error, io, json);
  return { status, stdout: io.stdout.text, stderr: io.stderr.text };
}

test('every code has its status', () => {
  const statuses = Object.fromEntries(errorCodes.map((code) => [code, statusOf(new FinetableError(code, ''))]));
  expect(statuses).toEqual({
    INVALID_ARGUMENT: 2,
    INVALID_JOB: 2,
    INVALID_DATA: 2,
    INVALID_FILE: 2,
    ID_OUT_OF_RANGE: 2,
    NON_FINITE: 2,
    MISMATCH: 2,
    NOT_FOUND: 2,
    EXISTS: 2,
    LOCKED: 2,
    UNSUPPORTED: 2,
    DOES_NOT_FIT: 2,
    IO: 1,
    OUT_OF_MEMORY: 1,
    WORKER_FAILED: 1,
    CLOSED: 1,
    INTERRUPTED: 130,
  });
  expect(statusOf(new Error('not ours'))).toBe(1);
});

test('an error of ours is one line, and with json an object', () => {
  const error = new FinetableError('INVALID_DATA', 'a.csv, line 3: found x', { file: 'a.csv', line: 3 });
  expect(report(error, false)).toEqual({ status: 2, stdout: '', stderr: 'finetable: a.csv, line 3: found x\n' });
  const { stdout } = report(error, true);
  expect(JSON.parse(stdout)).toEqual({
    error: { code: 'INVALID_DATA', message: 'a.csv, line 3: found x', details: { file: 'a.csv', line: 3 } },
  });
});

test('the stack is shown with FINETABLE_DEBUG=1, and of errors that are not ours', () => {
  vi.stubEnv('FINETABLE_DEBUG', '1');
  expect(report(new FinetableError('IO', 'disk'), false).stderr).toMatch(/^finetable: .*disk\n {4}at /);
  vi.stubEnv('FINETABLE_DEBUG', '');
  expect(report(new FinetableError('IO', 'disk'), false).stderr).toBe('finetable: disk\n');
  const bug = report(new TypeError('x is not a function'), true);
  expect(bug.stderr).toMatch(/^finetable: TypeError: x is not a function\n {4}at /);
  expect(JSON.parse(bug.stdout)).toMatchObject({ error: { code: 'UNEXPECTED', message: 'x is not a function' } });
});

test('what is thrown need not be an error', () => {
  expect(report('oops', false)).toEqual({ status: 1, stdout: '', stderr: 'finetable: oops\n' });
});
