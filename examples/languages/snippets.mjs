/** Which language a file is in, and the snippets cut from it. */
import { basename } from 'node:path';

const longestFileBytes = 512 * 1024; // longer ones are bundles or data
const longestMeanLine = 160; // characters; more means minified
const snippetLength = { shortest: 120, goal: 150, longest: 300 }; // UTF-16 code units

/**
 * The languages, and what a snippet must hold to be told apart from another language that reads the same without it: a
 * function's body is at home in every kind of JavaScript.
 */
const tells = {
  JSON: /(?:)/,
  'JavaScript (CommonJS)': /\brequire\(|\bexports\b/,
  'JavaScript (ES modules)': /^\s*(?:import|export)\b/m,
  Markdown: /(?:)/,
  TypeScript: new RegExp(
    [
      /\b(?:interface|readonly|implements|private|public|protected|import type|as const|keyof)\b/, // words of its own
      /[\w)]\??: (?:string|number|boolean|void|any|unknown|never|Promise|Record|Array)\b|\) ?: [A-Z]/, // a type after a name
      /\btype [A-Z]\w* ?[=<]|\bas [A-Z]/, // an alias, an assertion
    ]
      .map(({ source }) => source)
      .join('|'),
  ),
  'TypeScript declarations': /(?:)/,
};

export const languages = Object.keys(tells);

/**
 * The documents in one file: mostly the file itself. A source map holds the TypeScript that it maps to; a Markdown file
 * is its prose, as the code blocks in it are in other languages.
 *
 * @param {() => string} read the file's text, called only for a file that is wanted
 * @returns {{ language: string, text: string }[]}
 */
export function documentsOf(file, sizeBytes, read) {
  const name = basename(file);
  if (sizeBytes === 0 || sizeBytes > longestFileBytes) return [];
  if (/\.d\.[cm]?ts$/.test(name)) return [{ language: 'TypeScript declarations', text: read() }];
  if (/\.[cm]?ts$/.test(name)) return [{ language: 'TypeScript', text: read() }];
  if (/\.[cm]?js\.map$/.test(name)) return mappedSources(read());
  if (/\.[cm]?js$/.test(name)) return javascript(read());
  if (/\.json$/.test(name)) return [{ language: 'JSON', text: read() }];
  if (/\.(?:md|markdown)$/i.test(name)) return [{ language: 'Markdown', text: prose(read()) }];
  return [];
}

/** By what it does, as `.js` may be either kind. A file that does both, such as a bundle, or neither is left out. */
function javascript(text) {
  const modules = /^(?:import|export)\b/m.test(text);
  const common = /\brequire\(|\bmodule\.exports\b|\bexports\./.test(text);
  if (modules === common) return [];
  return [{ language: modules ? 'JavaScript (ES modules)' : 'JavaScript (CommonJS)', text }];
}

function mappedSources(text) {
  let map;
  try {
    map = JSON.parse(text);
  } catch {
    return [];
  }
  const { sources = [], sourcesContent = [] } = map;
  const isTypeScript = (content, i) => typeof content === 'string' && /\.[cm]?ts$/.test(sources[i] ?? '');
  return sourcesContent.filter(isTypeScript).map((content) => ({ language: 'TypeScript', text: content }));
}

function prose(markdown) {
  return markdown.replace(/^ *(`{3,}|~{3,})[^]*?^ *\1.*$/gm, '').replace(/\n\s*\n/g, '\n\n');
}

/**
 * Up to `count` snippets of consecutive lines from random places of a document.
 *
 * @param {import('@finetable/core').RandomStream} random the document's own
 */
export function cutSnippets({ language, text }, count, random) {
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  if (text.length / lines.length > longestMeanLine || text.includes('\0')) return [];
  const snippets = [];
  for (let attempt = 0; attempt < 8 * count && snippets.length < count; attempt++) {
    const snippet = cutFrom(lines, random.below(attempt, lines.length));
    if (snippet.length >= snippetLength.shortest && isTelling(snippet, language)) snippets.push(snippet);
  }
  return snippets;
}

function cutFrom(lines, first) {
  while (first < lines.length && lines[first].trim() === '') first++;
  let end = first;
  for (let length = 0; end < lines.length && length < snippetLength.goal; end++) length += lines[end].length + 1;
  return lines.slice(first, end).join('\n').slice(0, snippetLength.longest).trimEnd();
}

/** Comments read the same in most languages, and licences in most files. */
function isTelling(snippet, language) {
  if (/copyright|licensed under|permission is hereby/i.test(snippet)) return false;
  const lines = snippet.split('\n');
  const comments = lines.filter((line) => /^\s*(?:\/\/|\/?\*)/.test(line)).length;
  return tells[language].test(snippet) && (language === 'Markdown' || 2 * comments <= lines.length);
}
