import { FinetableError } from '@finetable/core';
import type { WordsReport } from './report.ts';
export function inspectWords(path: string): Promise<WordsReport> {
  return Promise.reject(new FinetableError('UNSUPPORTED', path));
}
