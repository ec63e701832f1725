import { expect, test } from 'vitest';
import * as names from './index.ts';

test('public names', () => {
  expect(Object.keys(names).sort()).toEqual([
    'StaticModel',
    'buildVocabulary',
    'countNgrams',
    'defaultTokenPattern',
    'foundIn',
    'historyColumns',
    'mostIndexedPlaces',
    'openLoader',
    'openStaticModel',
    'planLoader',
    'readFound',
    'readTokenizer',
    'readerBytes',
    'visitSource',
    'withFound',
    'wordLines',
    'wordSplitter',
    'writeFound',
  ]);
});
