import { expect, test } from 'vitest';
import * as names from './index.ts';

test('public names', () => {
  expect(Object.keys(names).sort()).toEqual([
    'StaticModel',
    'defaultTokenPattern',
    'mostIndexedPlaces',
    'openLoader',
    'openStaticModel',
    'planLoader',
    'readTokenizer',
    'sampleSource',
    'visitSource',
    'wordLines',
  ]);
});
