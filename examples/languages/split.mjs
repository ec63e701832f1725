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
  const seen = new Set();
  const split = {};
  let low = 0;
  for (const [side, { share, perLanguage, perRepository }] of Object.entries(sides)) {
    const high = low + share;
    const counts = new Map();
    split[side] = inOrder.filter(({ text, language, repository }) => {
      const place = uniform(`${seed}/${repository}`);
      const own = `${language} ${repository}`;
      const [all = 0, ofRepository = 0] = [counts.get(language), counts.get(own)];
      if (place < low || place >= high || all === perLanguage || ofRepository === perRepository) return false;
      const marks = copyMarks(text);
      if (marks.some((mark) => seen.has(mark))) return false;
      for (const mark of marks) seen.add(mark);
      counts.set(language, all + 1).set(own, ofRepository + 1);
      return true;
    });
    low = high;
  }
  return split;
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
