import { matrix } from '@finetable/core';
import { createTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { createAdapters, type PatternOptions } from './patterns.ts';

const tables = () => ({
  'shop.items': createTable('shop.items', matrix(20, 16)),
  items: createTable('items', matrix(20, 16)),
  users: createTable('users', matrix(20, 16)),
});

test('ranks and alphas by the end of a table name, the first key that matches', () => {
  const adapters = createAdapters(tables(), {
    rank: 4,
    alpha: 8,
    rankPattern: { 'shop.items': 2, items: 16 },
    alphaPattern: { users: 1 },
  });
  const found = Object.entries(adapters).map(([name, { groups }]) => [name, groups[0]!.rank, groups[0]!.alpha]);
  expect(found).toEqual([
    ['shop.items', 2, 8],
    ['items', 16, 8],
    ['users', 4, 1],
  ]);
});

test.each<[PatternOptions, RegExp]>([
  [
    { rank: 4, rankPattern: { item: 2 } },
    /rankPattern: key "item" fits no table; allowed: ends of shop.items, items, users/,
  ],
  [{ rank: 4, alphaPattern: { '(a+)+': 2 } }, /alphaPattern: key "\(a\+\)\+"; allowed: letters/],
  [{ kind: 'dense', rankPattern: { items: 2 } }, /rankPattern: with kind "dense"/],
  [{ rank: 4, rankPattern: { items: 99 } }, /shop.items: rank 99/],
])('refuses %j', (options, message) => {
  expect(() => createAdapters(tables(), options)).toThrow(message);
});
