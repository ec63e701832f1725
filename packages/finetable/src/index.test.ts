import * as core from '@finetable/core';
import * as data from '@finetable/data';
import * as formats from '@finetable/formats';
import * as kernels from '@finetable/kernels';
import * as lora from '@finetable/lora';
import * as placement from '@finetable/placement';
import * as trainer from '@finetable/trainer';
import { expect, test } from 'vitest';
import * as finetable from './index.ts';

// `export *` drops a name that two packages export, without a word.
test('every public name of every package comes through, and no other', () => {
  const packages = [core, kernels, formats, placement, lora, data, trainer];
  expect(Object.keys(finetable).sort()).toEqual(packages.flatMap((names) => Object.keys(names)).sort());
});

test('the names that the README and the examples use are there', () => {
  expect(Object.keys(finetable)).toEqual(
    expect.arrayContaining([
      'openTable',
      'createAdapter',
      'Trainer',
      'adamw',
      'classification',
      'openLoader',
      'saveAdapters',
      'readJob',
      'runJob',
      'evaluateRun',
    ]),
  );
});
