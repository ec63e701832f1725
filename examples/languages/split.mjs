/**
 * Training, validation and test snippets that share nothing. Packages of one repository share code, build tools and
 * README, so a repository, with all its packages, is on one side. Text that is in several repositories all the same, as
 * vendored files and compiler helpers are, is kept once: on the first side that has it.
 */
import { createHash } from 'node:crypto';

/** Shares of the repositories, and the most snippets of one language, in all and from one repository. */
const sides = {
  train: { share: 0.55, perLanguage: 2000, perRepository: 150 },
  valid: { share: 0.15, perLanguage: 250, perRepository: 40 },
  test: { share: 0.3, perLanguage: 500, perRepository: 40 },
};

/** Snippets that have so many characters in common, from the beginning of a line, are copies. */
const copyLength = 80;

/** A number in [0, 1) that depends on the text alone: what else is installed does not change it. */
export function uniform(text) {
  return createHash('sha256').update(text).digest().readUInt32LE(0) / 2 ** 32;
}

/**
 * @param {{ text: string, language: string, file: string, repository: string, order: number }[]} candidates
 * @returns {Record<'train' | 'valid' | 'test', typeof candidates>} the chosen ones of each side, in ascending `order`
 */
export function splitSnippets(candidates, seed) {
  const inOrder = [...candidates].sort((a, b) => a.order - b.order);
  const sideOf = assignRepositories(candidates, seed);
  const seen = new Set();
  const split = {};
  for (const [side, { perLanguage, perRepository }] of Object.entries(sides)) {
    const counts = new Map();
    split[side] = inOrder.filter(({ text, language, repository }) => {
      const own = `${language} ${repository}`;
      const [all = 0, ofRepository = 0] = [counts.get(language), counts.get(own)];
      if (sideOf.get(repository) !== side || all === perLanguage || ofRepository === perRepository) return false;
      const marks = copyMarks(text);
      if (marks.some((mark) => seen.has(mark))) return false;
      for (const mark of marks) seen.add(mark);
      counts.set(language, all + 1).set(own, ofRepository + 1);
      return true;
    });
  }
  return split;
}

/**
 * A side for every repository, such that each language has about its share on each side: the language with the fewest
 * repositories chooses first, and each of its repositories, in an order drawn by the seed, goes where it is missed most.
 */
function assignRepositories(candidates, seed) {
  const byLanguage = new Map();
  for (const { language, repository } of candidates) {
    const counts = byLanguage.get(language) ?? new Map();
    byLanguage.set(
      language,
      counts.set(repository, Math.min((counts.get(repository) ?? 0) + 1, sides.train.perRepository)),
    );
  }
  const sideOf = new Map();
  const rarestFirst = [...byLanguage].sort(([a, x], [b, y]) => x.size - y.size || (a < b ? -1 : 1));
  for (const [, counts] of rarestFirst) {
    const repositories = [...counts.keys()].sort((a, b) => uniform(`${seed}/${a}`) - uniform(`${seed}/${b}`));
    const held = { train: 0, valid: 0, test: 0 };
    for (const repository of repositories) {
      if (sideOf.has(repository)) held[sideOf.get(repository)] += counts.get(repository);
    }
    for (const repository of repositories) {
      if (sideOf.has(repository)) continue;
      const side = Object.keys(sides).reduce((a, b) => (held[b] / sides[b].share < held[a] / sides[a].share ? b : a));
      sideOf.set(repository, side);
      held[side] += counts.get(repository);
    }
  }
  return sideOf;
}

/** The first `copyLength` characters, and as many from the beginning of each later line; white space does not count. */
function copyMarks(text) {
  const lines = text.split('\n').map((line) => line.replace(/\s+/g, ''));
  const joined = lines.join('');
  const marks = [joined.slice(0, copyLength)];
  let at = 0;
  for (const line of lines) {
    at += line.length;
    if (at + copyLength <= joined.length) marks.push(joined.slice(at, at + copyLength));
  }
  return marks;
}
