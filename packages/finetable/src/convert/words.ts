import { FinetableError } from '@finetable/core';
import type { Written } from './command.ts';
export function convertWords(input: string, _output: string, _to: string, _options: object): Promise<Written[]> {
  return Promise.reject(new FinetableError('UNSUPPORTED', input));
}
