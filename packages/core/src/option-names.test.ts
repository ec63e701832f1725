import { expect, test } from 'vitest';
import { checkOptionNames, type OptionNames } from './option-names.ts';

const names: OptionNames<{ rank?: number; alpha?: number }> = { rank: true, alpha: true };

test('known options pass, and so do those that are not given', () => {
  expect(() => {
    checkOptionNames('words', { rank: 1, alhpa: undefined }, names);
    checkOptionNames('words', { rank: 1, seed: 2 }, names, { seed: true });
  }).not.toThrow();
});

test.each<[unknown, string]>([
  [{ rank: 1, alhpa: 2 }, 'words: there is no option "alhpa"; allowed: rank, alpha'],
  [{ toString: 1 }, 'words: there is no option "toString"; allowed: rank, alpha'],
  [undefined, 'words: found undefined; allowed: an object of rank, alpha'],
  [null, 'words: found null; allowed: an object of rank, alpha'],
  [4, 'words: found number; allowed: an object of rank, alpha'],
  [[], 'words: found a list; allowed: an object of rank, alpha'],
])('refuses %j', (given, message) => {
  expect(() => {
    checkOptionNames('words', given, names);
  }).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message }));
});
