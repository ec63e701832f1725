/** What is asked for is honoured or refused, also where no compiler has looked. */
import { matrix } from '@finetable/core';
import { createTable, type ShardedTable } from '@finetable/placement';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createAdapter } from './adapter.ts';
import { combineAdapters } from './combine/adapters.ts';
import type { CombineOptions } from './combine/combine.ts';
import { loadAdapters, saveAdapters, type LoadAdaptersOptions, type SaveAdaptersOptions } from './files.ts';
import { mergeAdapter, type MergeOptions } from './merge/merge.ts';
import { ruleOf, type OptimizerSpec } from './optimizer.ts';
import type { AdapterOptions } from './options.ts';

const table = (): ShardedTable => createTable('words', matrix(12, 7));
const group = { name: 'new', rows: [1, 2], rank: 2 };
const invalid = (message: RegExp): unknown =>
  expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) as string });

test.each<[unknown, RegExp]>([
  [undefined, /^words: found undefined; allowed: an object of kind, rank, /],
  [null, /^words: found null; allowed: an object of/],
  [{ rank: 2, rnak: 4 }, /^words: there is no option "rnak"; allowed: kind, rank, alpha, .*dora$/],
  [{ kind: 'dense', rank: 4 }, /^words: there is no option "rank"; allowed: kind, learningRate, weightDecay, seed, /],
  [{ rank: '4' }, /^words: rank "4"; allowed: an integer/],
  [{ rank: 2, alpha: '4' }, /^words: alpha "4"; allowed: a number above 0/],
  [{ rank: 2, rsLora: 'false' }, /^words: rsLora "false"; allowed: true, false/],
  [{ rank: 2, dora: 1 }, /^words: dora 1; allowed: true, false/],
  [{ rank: 2, dropout: '0.1' }, /^words: dropout "0.1"; allowed: 0 or more and below 1/],
  [{ rank: 2, dropout: NaN }, /^words: dropout NaN/],
  [{ rank: 2, maxNorm: '1' }, /^words: maxNorm "1"; allowed: a number above 0/],
  [{ rank: 2, maxNorm: 1, dora: true }, /^words: maxNorm goes without dora/],
  [{ rank: 2, learningRate: NaN }, /^words: learningRate NaN; allowed: 0 or more/],
  [{ rank: 2, learningRateB: -1 }, /^words: learningRateB -1; allowed: 0 or more/],
  [{ rank: 2, weightDecay: '0' }, /^words: weightDecay "0"; allowed: 0 or more/],
  [{ rank: 2, freeze: 'B', learningRateB: 0.1 }, /^words: learningRateB 0.1 with freeze "B"; allowed: one of them/],
  [{ rank: 2, freeze: 'B', init: 'keras' }, /^words: B is frozen at 0, so nothing would be trained/],
  [{ rank: 2, learningRateB: 0, init: 'keras' }, /^words: B is frozen at 0/],
  [{ rank: 2, rows: null }, /^words: rows: found null; allowed: integers from 0 to 11/],
  [{ rank: 2, rows: 'all' }, /^words: rows: found "all"/],
  [{ rank: 2, rows: { form: 5 } }, /^words: rows: there is no option "form"; allowed: from, to/],
  [{ rank: 2, rows: [3], paddingRow: 3 }, /^words: rows: all of them are in groups, or are the padding row/],
  [{ rank: 2, paddingRow: '0' }, /^words: paddingRow: found row "0"/],
  [{ rank: 2, grown: 'dense' }, /^words: grown "dense"; allowed: "tied", or the factors of a group/],
  [{ rank: 2, grown: { rank: 2, rows: [1] } }, /^words: grown: there is no option "rows"/],
  [{ rank: 2, groups: {} }, /^words: groups {}; allowed: a list/],
  [{ rank: 2, groups: [null] }, /^words: groups\[0\]: found null/],
  [{ rank: 2, groups: [{ name: 'new', rank: 2 }] }, /^words: group "new": rows: found undefined/],
  [{ rank: 2, groups: [{ ...group, dora: true }] }, /^words: groups\[0\]: there is no option "dora"; .*name, rows$/],
  [{ rank: 2, groups: [{ ...group, kind: 'dense' }] }, /^words: groups\[0\]: there is no option "rank"/],
  [{ rank: 2, groups: [{ ...group, learningRateB: NaN }] }, /^words: group "new": learningRateB NaN/],
])('an adapter of %j is refused', (options, message) => {
  expect(() => createAdapter(table(), options as AdapterOptions)).toThrow(invalid(message));
});

test('an option that is undefined is one that is not given', () => {
  const options = { rank: 2, alpha: undefined, rnak: undefined };
  expect(createAdapter(table(), options).groups[0]!.alpha).toBe(2);
});

test.each<[unknown, RegExp]>([
  [null, /^optimizer: found null; allowed: an object of type, learningRate/],
  [{ type: 'adamw', learningRate: 1, momentum: 0.9 }, /^optimizer of type "adamw": there is no option "momentum"/],
  [{ type: 'adamw', learningRate: 1, decay: 'l2' }, /^optimizer of type "adamw": there is no option "decay"/],
  [{ type: 'sgd', learningRate: 1, beta1: 0.9 }, /^optimizer of type "sgd": there is no option "beta1"; .*momentum$/],
  [{ type: 'sgd', learningRate: 1, schedule: 'cosine' }, /^optimizer\.schedule: found string; allowed: an object/],
  [{ type: 'sgd', learningRate: 1, schedule: { type: 'constant', totalSteps: 3 } }, /^optimizer\.schedule of type "constant": there is no option "totalSteps"/], // prettier-ignore
])('the optimiser %j is refused', (optimizer, message) => {
  expect(() => ruleOf(optimizer as OptimizerSpec)).toThrow(invalid(message));
});

test.each<[unknown, RegExp]>([
  [undefined, /^combine: found undefined; allowed: an object of method/],
  [{ method: 'cat', rank: 2 }, /^combine by cat: there is no option "rank"; allowed: method$/],
  [{ method: 'dare_linear', density: 1, tableRows: 12 }, /^combine by dare_linear: there is no option "tableRows"/],
])('combining by %j is refused', (options, message) => {
  const parts = [{ adapter: createAdapter(table(), { rank: 2 }), weight: 1 }];
  expect(() => combineAdapters(parts, options as CombineOptions)).toThrow(invalid(message));
});

test('saving and loading refuse what they do not know, before anything is written', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'finetable-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const words = table();
  const adapter = createAdapter(words, { rank: 2 });
  const path = join(folder, 'adapter');
  const refused: [object, RegExp][] = [
    [{ replace: true }, /^saveAdapters: there is no option "replace"; allowed: format, overwrite, modulePaths/],
    [{ format: 'PEFT' }, /^saveAdapters: format "PEFT"; allowed: sparse, peft/],
    [{ modulePaths: { words: '0' } }, /^saveAdapters: modulePaths go with format "peft"/],
  ];
  for (const [options, message] of refused)
    await expect(saveAdapters(path, [adapter], options as SaveAdaptersOptions)).rejects.toThrow(invalid(message));
  await expect(mergeAdapter(adapter, path, { dtpye: 'f16' } as MergeOptions)).rejects.toThrow(
    invalid(/^mergeAdapter: there is no option "dtpye"; allowed: .*dtype, groupDims$/),
  );
  await saveAdapters(path, [adapter]); // nothing is there already
  const options = { rank: 4 } as LoadAdaptersOptions;
  await expect(loadAdapters(path, [words], options)).rejects.toThrow(
    invalid(/^loadAdapters: there is no option "rank"/),
  );
});
