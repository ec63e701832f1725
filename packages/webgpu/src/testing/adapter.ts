/** Tests on the adapter that there is, a GPU's or a software one; without any they are skipped, with the reason. */
import { isFinetableError } from '@finetable/core';
import { beforeEach, describe, type TestContext } from 'vitest';
import { findAdapter } from '../adapters.ts';

let missing: string | null | undefined;

async function whyNone(): Promise<string | null> {
  if (missing !== undefined) return missing;
  try {
    await findAdapter(true);
    missing = null;
  } catch (error) {
    if (!isFinetableError(error) || error.code !== 'UNSUPPORTED') throw error;
    missing = error.message;
  }
  return missing;
}

export async function needAdapter(context: TestContext): Promise<void> {
  const reason = await whyNone();
  if (reason !== null) context.skip(reason);
}

/** Declares tests that need one. */
export function onAdapter(body: () => void): void {
  describe('on an adapter', () => {
    beforeEach(needAdapter);
    body();
  });
}
