import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { matrix, type Matrix } from '@finetable/core';
import { writeNpy, writeSafetensors } from '@finetable/formats';
import { createAdapter, saveAdapters } from '@finetable/lora';
import { openTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { runHere } from '../testing/capture.ts';
import { temporaryFolder } from '../testing/tiny-job.ts';

/** Directions in a plane: the angle between two is easy to tell. */
const words = ['north', 'nne', 'east', 'south', 'west'];
const degrees = [90, 67.5, 0, -90, 180];

async function writeCompass(): Promise<{ folder: string; table: string }> {
  const folder = await temporaryFolder();
  const table = join(folder, 'compass.safetensors');
  const data = Float32Array.from(
    degrees.flatMap((angle) => [Math.cos, Math.sin].map((f) => f((angle / 180) * Math.PI))),
  );
  // Longer vectors come first by dot product and not by cosine.
  data[4]! *= 3;
  await writeSafetensors(table, [{ name: 'rows', dtype: 'F32', shape: [5, 2], data }]);
  return { folder, table };
}

async function nearest(...argv: string[]): Promise<string> {
  const { status, stdout, stderr } = await runHere(['nearest', ...argv]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

async function refused(...argv: string[]): Promise<string> {
  const { status, stdout, stderr } = await runHere(['nearest', ...argv]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr, 'no stack').not.toContain('    at ');
  return stderr;
}

/** The word or row of each result, one list per query. */
function found(json: string): unknown[][] {
  const lines = json.trimEnd().split('\n');
  const queries = lines.map((line) => JSON.parse(line) as { nearest: { row: number; word?: string }[] });
  return queries.map((query) => query.nearest.map(({ row, word }) => word ?? row));
}

test('words beside the table are known; a row is not its own result', async () => {
  const { folder, table } = await writeCompass();
  await writeFile(join(folder, 'words.txt'), words.join('\n'));
  expect(await nearest(table, '--word', 'nne', '-k', '2')).toBe(
    'nne (row 1)\n  0.9239  north  (row 0)\n  0.3827  east   (row 2)\n',
  );
  expect(found(await nearest(table, '--ids', '3,0', '-k', '4', '--json'))).toEqual([
    ['east', 'west', 'nne', 'north'],
    ['nne', 'east', 'west', 'south'],
  ]);
  expect(found(await nearest(table, '--word', 'nne', '-k', '1', '--metric', 'dot', '--json'))).toEqual([['east']]);
});

test('without words there are rows; words.txt of something else is left alone, and --words names another', async () => {
  const { folder, table } = await writeCompass();
  await writeFile(join(folder, 'words.txt'), 'one\ntwo\n');
  expect(await nearest(table, '--ids', '1', '-k', '1')).toBe('row 1\n  0.9239  row 0\n');
  expect(await refused(table, '--word', 'one')).toMatch(/no words are known for .*; name their file with --words/);
  await writeFile(join(folder, 'other.txt'), `\uFEFF${words.slice(0, 3).join('\r\n')}\r\n`);
  const some = await nearest(table, '--words', join(folder, 'other.txt'), '--word', 'nne', '-k', '3', '--json');
  expect(found(some)).toEqual([['north', 'east', 4]]);
});

test('vectors of a file, from npy and safetensors; the result is one object per query', async () => {
  const { folder, table } = await writeCompass();
  const data = Float32Array.of(0, 5, -1, 0.1);
  await writeNpy(join(folder, 'queries.npy'), { dtype: 'F32', shape: [2, 2], data });
  await writeSafetensors(join(folder, 'queries.safetensors'), [{ name: 'q', dtype: 'F32', shape: [2, 2], data }]);
  const lines = await nearest(table, '--queries', join(folder, 'queries.npy'), '-k', '1', '--json');
  const first = JSON.parse(lines.split('\n')[0]!) as { query: number; nearest: { row: number; score: number }[] };
  expect(first).toMatchObject({ query: 0, nearest: [{ row: 0 }] });
  expect(first.nearest[0]!.score).toBeCloseTo(1, 6);
  expect(found(lines)).toEqual([[0], [4]]);
  expect(await nearest(table, '--queries', join(folder, 'queries.safetensors'), '-k', '1', '--json')).toBe(lines);
  expect(await nearest(table, '--queries', join(folder, 'queries.npy'), '-k', '1')).toMatch(
    /^query 0\n  1.000  row 0\nquery 1\n/,
  );
});

test('more queries than one pass takes', async () => {
  const { folder, table } = await writeCompass();
  // Every third query looks west, the others east.
  const data = new Float32Array(2 * 1100);
  for (let query = 0; query < 1100; query++) data[2 * query] = query % 3 === 0 ? -1 : 1;
  await writeNpy(join(folder, 'queries.npy'), { dtype: 'F32', shape: [1100, 2], data });
  const rows = found(await nearest(table, '--queries', join(folder, 'queries.npy'), '-k', '1', '--json'));
  expect(rows).toEqual(Array.from({ length: 1100 }, (_, query) => [query % 3 === 0 ? 4 : 2]));
});

test('an adapter is searched with the table, and not merged into it', async () => {
  const { folder, table } = await writeCompass();
  const opened = await openTable(table);
  const adapter = createAdapter(opened, { kind: 'dense' });
  const rest = adapter.groups[0]!;
  rest.reset(Int32Array.of(3));
  // South turns to the north.
  const turned: Matrix = matrix(1, 2, Float32Array.of(0.1, 3));
  opened.kernels.scatterRows(rest.factors, Int32Array.of(0), turned);
  await mkdir(join(folder, 'runs'));
  await saveAdapters(join(folder, 'runs', 'adapter'), [adapter]);
  const adapted = ['--adapter', join(folder, 'runs', 'adapter'), '--json', '-k', '1'];
  expect(found(await nearest(table, '--ids', '0', ...adapted))).toEqual([[3]]);
  expect(found(await nearest(table, '--ids', '3', ...adapted))).toEqual([[0]]);
  expect(found(await nearest(table, '--ids', '0', '--json', '-k', '1'))).toEqual([[1]]);
  expect(await refused(table, '--ids', '9', ...adapted.slice(0, 2))).toContain('id 9 at place 0; allowed: 0 to 4');
  adapter.close();
  opened.close();
});

test('what people get wrong', async () => {
  const { folder, table } = await writeCompass();
  const file = join(folder, 'words.txt');
  await writeFile(file, words.join('\n'));
  expect(await refused(table)).toContain('nothing to search for; allowed: one of --ids, --word, --queries');
  expect(await refused(table, '--ids', '1', '--word', 'east')).toContain('more than one thing to search for');
  expect(await refused(table, '--ids', '1,-2')).toContain('Allowed: row numbers from 0, separated by commas.');
  expect(await refused(table, '--word', 'east,')).toContain('Allowed: words separated by commas.');
  expect(await refused(table, '--ids', '1,5')).toContain('compass: id 5 at place 1; allowed: 0 to 4');
  expect(await refused(table, '--word', 'up')).toContain(`${file} has no word "up"\n`);
  expect(await refused(table, '--word', 'East')).toContain('has no word "East"; it has "east"');
  expect(await refused(table, '--ids', '1', '-k', '5')).toContain('compass: k 5; allowed: 1 to 4');
  expect(await refused(table, '--ids', '1', '--words', join(folder, 'absent.txt'))).toContain('absent.txt');
  await writeFile(join(folder, 'long.txt'), 'a\n'.repeat(6));
  expect(await refused(table, '--ids', '1', '--words', join(folder, 'long.txt'))).toMatch(/6 words, but .* has 5 rows/);
  await writeFile(join(folder, 'latin.txt'), Buffer.of(0xe9, 10));
  expect(await refused(table, '--ids', '1', '--words', join(folder, 'latin.txt'))).toContain('latin.txt: not UTF-8');
  const queries = join(folder, 'queries.npy');
  await writeNpy(queries, { dtype: 'F32', shape: [2, 3], data: new Float32Array(6) });
  expect(await refused(table, '--queries', queries)).toContain('compass: queries of 3 dims; the table has 2');
  await writeNpy(queries, { dtype: 'F32', shape: [2, 2], data: Float32Array.of(0, 0, NaN, 0) });
  expect(await refused(table, '--queries', queries, '-k', '1')).toContain('query 1 holds NaN at dim 0');
  expect(await refused(table, '--queries', join(folder, 'absent.npy'))).toContain('absent.npy');
  expect(await refused(table, '--ids', '1', '--adapter', join(folder, 'absent'))).toContain('absent');
  const stopped = await runHere(['nearest', table, '--ids', '1', '-k', '1'], { signal: AbortSignal.abort() });
  expect(stopped).toMatchObject({ status: 130, stdout: '' });
});
