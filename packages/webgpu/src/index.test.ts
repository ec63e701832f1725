import { expect, test } from 'vitest';
import * as names from './index.ts';

test('public names', () => {
  expect(Object.keys(names).sort()).toEqual(['examineWebgpu', 'offerDevice', 'webgpuDevice']);
});
