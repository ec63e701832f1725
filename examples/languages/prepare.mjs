/**
 * Makes what the example trains on: snippets of the files below node_modules, and a frozen table of random rows. Both
 * are made once: a second call with the same parameters finds them.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FinetableError, RandomStream } from '@finetable/core';
import { readSafetensorsHeader, writeFolderAtomic, writeSafetensors } from '@finetable/formats';
import { filesOf, findPackages } from './packages.mjs';
import { cutSnippets, documentsOf, languages } from './snippets.mjs';
import { splitSnippets, uniform } from './split.mjs';

const snippetsPerDocument = 12;
const summaryFile = 'summary.json';

/**
 * Makes the folder `out` with `train.jsonl`, `valid.jsonl` and `test.jsonl`, of lines `{"text", "language", "file"}`, and
 * `summary.json`.
 *
 * @param {{ nodeModules: string, out: string, seed: number }} options
 * @returns the summary: the parameters, and snippets and repositories by side and language
 */
export async function makeExamples({ nodeModules, out, seed }) {
  if (!existsSync(nodeModules)) {
    throw new FinetableError('NOT_FOUND', `${nodeModules}: no such folder; run npm ci`, { file: nodeModules });
  }
  const packages = findPackages(nodeModules);
  const made = { seed, packages: packages.length, fingerprint: fingerprint(packages) };
  const present = readSummary(join(out, summaryFile));
  if (present !== null && Object.keys(made).every((key) => present[key] === made[key])) return present;

  const split = splitSnippets(findSnippets(packages, seed), seed);
  const summary = { ...made, sides: countSides(split) };
  for (const [side, counts] of Object.entries(summary.sides)) {
    const missing = languages.filter((language) => !counts[language]);
    if (missing.length > 0) {
      const message = `${nodeModules}: no ${missing.join(', ')} for ${side}.jsonl in ${packages.length} packages; run npm ci`;
      throw new FinetableError('INVALID_DATA', message, { file: nodeModules });
    }
  }
  const build = async (folder) => {
    for (const [side, snippets] of Object.entries(split)) {
      const lines = snippets.map(({ text, language, file }) => `${JSON.stringify({ text, language, file })}\n`);
      await writeFile(join(folder, `${side}.jsonl`), lines.join(''));
    }
    await writeFile(join(folder, summaryFile), JSON.stringify(summary, null, 2));
  };
  await writeFolderAtomic(out, build, { overwrite: true });
  return summary;
}

function findSnippets(packages, seed) {
  // Two versions of a package may name different repositories.
  const repositoryOf = new Map([...packages].reverse().map(({ name, repository }) => [name, repository]));
  const snippets = [];
  for (const { name, folder } of packages) {
    const repository = repositoryOf.get(name);
    for (const path of filesOf(folder)) {
      const full = join(folder, path);
      const documents = documentsOf(path, statSync(full).size, () => readFileSync(full, 'utf8'));
      documents.forEach((document, i) => {
        const { language } = document;
        const file = `${name}/${path}`;
        const random = new RandomStream(seed, `${file}/${i}`);
        for (const text of cutSnippets(document, snippetsPerDocument, random)) {
          snippets.push({ text, language, file, repository, order: uniform(`${seed}/${file}/${text}`) });
        }
      });
    }
  }
  return snippets;
}

function countSides(split) {
  const count = (snippets) =>
    Object.fromEntries(
      languages.flatMap((language) => {
        const own = snippets.filter((snippet) => snippet.language === language);
        const repositories = new Set(own.map(({ repository }) => repository)).size;
        return own.length === 0 ? [] : [[language, { snippets: own.length, repositories }]];
      }),
    );
  return Object.fromEntries(Object.entries(split).map(([side, snippets]) => [side, count(snippets)]));
}

/** Of what is installed and of the code that cuts and splits it. */
function fingerprint(packages) {
  const hash = createHash('sha256');
  for (const { name, version, repository } of packages) hash.update(`${name} ${version} ${repository}\n`);
  for (const code of ['packages', 'snippets', 'split', 'prepare']) {
    hash.update(readFileSync(new URL(`${code}.mjs`, import.meta.url)));
  }
  return hash.digest('hex');
}

function readSummary(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null; // not there, or not ours: made anew
  }
}

/**
 * Makes the safetensors file `out` with one tensor, `embeddings` [rows, dim] f32, of independent normal values. They have
 * deviation 1, so a mean of n distinct rows has deviation 1/sqrt(n): about 0.1 for a snippet of 250 characters.
 *
 * @param {{ out: string, rows: number, dim: number, seed: number }} options
 */
export async function makeTable({ out, rows, dim, seed }) {
  const recipe = { made_by: 'examples/languages', seed: String(seed) };
  if (await hasTable(out, rows, dim, recipe)) return;
  await mkdir(dirname(out), { recursive: true });
  const data = normalRows(rows, dim, seed);
  await writeSafetensors(out, [{ name: 'embeddings', dtype: 'F32', shape: [rows, dim], data }], recipe);
}

async function hasTable(file, rows, dim, recipe) {
  if (!existsSync(file)) return false;
  try {
    const { tensors, metadata } = await readSafetensorsHeader(file);
    const shape = tensors.get('embeddings')?.shape ?? [];
    return shape.join() === `${rows},${dim}` && Object.keys(recipe).every((key) => metadata[key] === recipe[key]);
  } catch {
    return false;
  }
}

async function* normalRows(rows, dim, seed) {
  const stream = new RandomStream(seed, 'languages/embeddings');
  const chunk = new Float32Array(Math.min(rows * dim, 2 ** 20));
  for (let start = 0; start < rows * dim; start += chunk.length) {
    const values = chunk.subarray(0, Math.min(chunk.length, rows * dim - start));
    stream.fillNormal(values, 1, start);
    yield new Uint8Array(values.buffer, 0, values.byteLength);
  }
}
