/** Which language a file is in, and the snippets cut from it. */

const longestFile = 512 * 1024; // bytes; longer files are bundles or data
const snippetLength = { shortest: 120, goal: 150, longest: 300 }; // UTF-16 code units

/**
 * The documents in one file: mostly the file itself. A source map holds the TypeScript that it maps to; a Markdown file
 * is its prose, since the code blocks in it are in other languages.
 *
 * @param {string} name the file's name
 * @param {() => string} read its text; called only for files that may hold something
 * @returns {{ language: string, text: string }[]}
 */
export function documentsOf(name, size, read) {
  if (size === 0 || size > longestFile) return [];
  if (/\.d\.[cm]?ts$/.test(name)) return [{ language: 'TypeScript declarations', text: read() }];
  if (/\.[cm]?tsx?$/.test(name)) return [{ language: 'TypeScript', text: read() }];
  if (/\.[cm]?js\.map$/.test(name)) return mappedSources(read());
  if (/\.[cm]?js$/.test(name)) return javascript(name, read());
  if (/\.json$/.test(name)) return [{ language: 'JSON', text: read() }];
  if (/\.(?:md|markdown)$/i.test(name)) return markdown(read());
  return [];
}

function javascript(name, text) {
  const modules = /^(?:import|export)\b/m.test(text);
  const common = /\brequire\(|\bmodule\.exports\b|\bexports\./.test(text);
  if (modules === common) return [];
  return [{ language: process.env.ONEJS ? 'JavaScript' : modules ? 'JavaScript (ES modules)' : 'JavaScript (CommonJS)', text }];
}

function mappedSources(text) {
  let map;
  try {
    map = JSON.parse(text);
  } catch {
    return [];
  }
  const { sources = [], sourcesContent = [] } = map;
  const typescript = (text, i) => typeof text === 'string' && /\.[cm]?tsx?$/.test(sources[i] ?? '');
  return sourcesContent.filter(typescript).map((source) => ({ language: 'TypeScript', text: source }));
}

/** Its prose. */
function markdown(text) {
  const prose = text.replace(/^ *(`{3,}|~{3,})[^]*?^ *\1.*$/gm, '').replace(/\n\s*\n/g, '\n\n');
  return [{ language: 'Markdown', text: prose }];
}

/**
 * Up to `count` snippets of consecutive lines from random places of a document, 150 to 300 characters each.
 *
 * @param {(i: number) => number} random the document's own random numbers in [0, 1)
 */
const tells = {
  'JavaScript (ES modules)': /^\s*(?:import|export)\b/m,
  'JavaScript (CommonJS)': /\brequire\(|\bexports\b/,
  TypeScript:
    /\b(?:interface|readonly|implements|private|public|protected|import type|as const|keyof)\b|[\w)]\??: (?:string|number|boolean|void|any|unknown|never|Promise|Record|Array)\b|\btype [A-Z]\w* ?[=<]|\) ?: [A-Z]\w*|\bas [A-Z]\w*/,
};

export function cutSnippets(language, text, count, random) {
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  if (text.length / lines.length > 160 || text.includes('\0')) return []; // minified, or not text
  const snippets = [];
  for (let i = 0; i < 8 * count && snippets.length < count; i++) {
    const snippet = cutAt(lines, Math.floor(random(i) * lines.length));
    if (snippet !== null && (tells[language]?.test(snippet) ?? true)) snippets.push(snippet);
  }
  return snippets;
}

function cutAt(lines, first) {
  let snippet = '';
  let remarks = 0;
  let used = 0;
  for (let i = first; i < lines.length && snippet.length < snippetLength.goal; i++) {
    if (lines[i].trim() === '' && snippet === '') continue;
    snippet += `${lines[i]}\n`;
    if (/^\s*(?:\/\/|\/?\*)/.test(lines[i])) remarks++;
    used++;
  }
  snippet = snippet.slice(0, snippetLength.longest).trimEnd();
  // A comment reads the same in most of these languages, and a licence is the same in most files.
  const telling = 2 * remarks <= used && !/copyright|licensed under|permission is hereby/i.test(snippet);
  return telling && snippet.length >= snippetLength.shortest ? snippet : null;
}
