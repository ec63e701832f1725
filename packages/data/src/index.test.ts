import { expect, test } from 'vitest';
import * as names from './index.ts';

test('public names', () => {
  expect(Object.keys(names).sort()).toEqual([
    'StaticModel',
    'defaultTokenPattern',
    'openLoader',
    'openStaticModel',
    'planLoader',
    'readTokenizer',
    'sampleSource',
    'wordLines',
  ]);
});
