// Makes what job.yaml names, in `out`: train.jsonl, valid.jsonl and test.jsonl of lines {"page", "description", "command"}, and a link to the
// word vectors.
//   node examples/commands/prepare.mjs [--data DIR]
import { existsSync } from 'node:fs';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { permutation } from 'finetable';
import { findData } from '../data.mjs';

export const work = fileURLToPath(new URL('../../.cache/commands', import.meta.url));

/** @param {{ data?: string, out?: string, pages?: number }} options `pages`: so many of them, drawn at random; default all */
export async function prepare({ data, out = work, pages = Infinity } = {}) {
  const files = ['tldr/pairs_en.tsv', 'numberbatch/vectors.f16.npy', 'numberbatch/words.txt'];
  const folder = findData('examples of tldr-pages and ConceptNet Numberbatch', files, data);
  await mkdir(out, { recursive: true });
  if (!existsSync(`${out}/numberbatch`)) await symlink(`${folder}/numberbatch`, `${out}/numberbatch`, 'junction');

  const pairs = (await readFile(`${folder}/tldr/pairs_en.tsv`, 'utf8')).trimEnd().split('\n').map(readPair);
  const pagesOf = new Map();
  for (const { page, description } of pairs)
    pagesOf.set(description, (pagesOf.get(description) ?? new Set()).add(page));
  // "Display help" says nothing about which of 762 commands is meant.
  const told = pairs.filter(({ description }) => pagesOf.get(description).size === 1);

  // A page is on one side: its examples have the command's name in common.
  const names = [...new Set(told.map(({ page }) => page))].sort();
  const order = permutation(names.length, 1, 'commands/pages').subarray(0, pages);
  const tenth = Math.round(order.length / 10);
  const sides = {
    test: order.subarray(0, tenth),
    valid: order.subarray(tenth, 2 * tenth),
    train: order.subarray(2 * tenth),
  };
  const counts = {};
  for (const [side, places] of Object.entries(sides)) {
    const own = new Set([...places].map((place) => names[place]));
    const lines = told.filter(({ page }) => own.has(page)).map((pair) => `${JSON.stringify(pair)}\n`);
    await writeFile(`${out}/${side}.jsonl`, lines.join(''));
    counts[side] = lines.length;
  }
  return counts;
}

/** "[n]ame" is a hint which letter stands for the word; "{{path}}" is to be filled in. */
function readPair(line) {
  const [page, description, command] = line.split('\t');
  return { page, description: description.replace(/\[(\w+)\]/g, '$1'), command: command.replaceAll(/\{\{|\}\}/g, ' ') };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { data: { type: 'string' } } });
  const counts = await prepare(values);
  console.log(Object.entries(counts).map(([side, count]) => `${side} ${count.toLocaleString('en')}`).join(', '));
}
