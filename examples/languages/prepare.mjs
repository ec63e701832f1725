/** Makes what the example trains on: snippets of the files below node_modules, and a frozen table of random rows. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { filesOf, findPackages } from './packages.mjs';
import { cutSnippets, documentsOf } from './snippets.mjs';

/** Shares of the repositories; the rest is for training. */
const heldOut = { test: 0.3, valid: 0.15 };
const sides = ['train', 'valid', 'test'];
/** At most so many snippets of one language, and of them from one repository. */
const limits = { train: { language: 2000, repository: 150 }, valid: { language: 250, repository: 40 }, test: { language: 500, repository: 40 } };
const snippetsPerDocument = 12;
const copiedLength = 80; // characters

export async function makeExamples({ nodeModules, out, seed }) {
  const packages = findPackages(nodeModules);
  const repositories = new Set(packages.map((p) => p.repository));
  const sideOf = new Map();
  for (const repository of repositories) {
    const share = uniform(`${seed}/side/${repository}`);
    sideOf.set(repository, share < heldOut.test ? 'test' : share < heldOut.test + heldOut.valid ? 'valid' : 'train');
  }
  const candidates = { train: [], valid: [], test: [] };
  for (const { name, repository, folder } of packages) {
    const side = sideOf.get(repository);
    for (const file of filesOf(folder)) {
      const full = path.join(folder, file);
      documentsOf(file, statSync(full).size, () => readFileSync(full, 'utf8')).forEach(({ language, text }, d) => {
        const key = `${seed}/${name}/${file}/${d}`;
        for (const snippet of cutSnippets(language, text, snippetsPerDocument, (i) => uniform(`${key}/${i}`))) {
          candidates[side].push({ text: snippet, language, file: `${name}/${file}`, repository, rank: uniform(`${key}/${snippet}`) });
        }
      });
    }
  }
  const seen = new Set();
  const counts = {};
  mkdirSync(out, { recursive: true });
  for (const side of sides) {
    const taken = new Map();
    const take = (key, limit) => { const n = taken.get(key) ?? 0; if (n >= limit) return false; return true; };
    const kept = [];
    let copies = 0;
    for (const c of candidates[side].sort((a, b) => a.rank - b.rank)) {
      const lk = c.language, rk = `${c.language}/${c.repository}`;
      if (!take(lk, limits[side].language) || !take(rk, limits[side].repository)) continue;
      const s = shingles(c.text);
      if (s.some((x) => seen.has(x))) { copies++; continue; }
      for (const x of s) seen.add(x);
      taken.set(lk, (taken.get(lk) ?? 0) + 1); taken.set(rk, (taken.get(rk) ?? 0) + 1);
      kept.push(c);
    }
    for (const c of kept) { const k = c.language; const o = ((counts[k] ??= {})[side] ??= { n: 0, rp: new Set() }); o.n++; o.rp.add(c.repository); }
    console.log(side, kept.length, 'copies', copies, 'candidates', candidates[side].length);
    writeFileSync(path.join(out, `${side}.jsonl`), kept.map(({ text, language, file }) => JSON.stringify({ text, language, file }) + '\n').join(''));
  }
  for (const [k, c] of Object.entries(counts)) console.log(k.padEnd(26), sides.map((s) => `${s} ${c[s]?.n} (${c[s]?.rp.size} repos)`).join('  '));
}

function shingles(text) {
  const lines = text.split('\n').map((l) => l.replace(/\s+/g, ' ').trim()).filter((l) => l !== '');
  const joined = lines.join('\n');
  const found = [];
  for (let at = 0, i = 0; i < lines.length; at += lines[i].length + 1, i++) if (joined.length - at >= copiedLength) found.push(joined.slice(at, at + copiedLength));
  return found;
}

function uniform(key) {
  return createHash('sha256').update(key).digest().readUInt32LE(0) / 2 ** 32;
}
