import { expect, test } from 'vitest';
import * as names from './index.ts';

test('public names', () => {
  expect(Object.keys(names).sort()).toEqual([
    'Embedding',
    'TfjsMatrix',
    'embedding',
    'embeddingFromConfig',
    'offerDevice',
    'registerTable',
    'tf',
    'tfjsDevice',
    'tfjsModel',
    'tfjsObjective',
    'useBackend',
    'useBestBackend',
  ]);
});
