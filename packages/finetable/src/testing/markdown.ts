/**
 * The code blocks of a Markdown page as programs to run. What a block is, its language says:
 *
 * - `sh`: commands, run by bash, which ends at the first that fails.
 * - `ts`, `js`: a program. One that does not begin with an `import` goes on with the block before it.
 * - `python`: the same in Python, where the peers are installed.
 * - `yaml`, `json`: a job or batch file, or fields of one, which are checked.
 * - `text`: what the block before it prints (`…` on a line of its own: lines left out).
 * - Any whose first line is a comment with a file's name: that file.
 *
 * A paragraph `_Not run by the tests: reason._` right before a block leaves it out.
 */
export interface Block {
  readonly kind: 'sh' | 'program' | 'python' | 'fields' | 'file';
  /** Of the page, from 1. */
  readonly line: number;
  readonly code: string;
  /** Of a file. */
  readonly name?: string;
  /** What it prints; null where the page does not say. */
  prints: string | null;
  /** Why it is not run. */
  readonly skip: string | null;
}

const kinds: Readonly<Record<string, Block['kind']>> = {
  sh: 'sh',
  ts: 'program',
  js: 'program',
  python: 'python',
  yaml: 'fields',
  json: 'fields',
};

/** @throws Error for a block of a language that nobody runs */
export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  const fences = /^( *)```(\w*)\n([^]*?)^\1```$/gm;
  for (const { index, 1: indent = '', 2: language = '', 3: body = '' } of markdown.matchAll(fences)) {
    const code = body.replaceAll(new RegExp(`^${indent}`, 'gm'), '');
    const before = markdown.slice(0, index);
    const line = before.split('\n').length;
    const last = blocks.at(-1);
    if (language === 'text') {
      if (last) last.prints = (last.prints ?? '') + code;
      continue;
    }
    const kind = kinds[language];
    if (!kind)
      throw new Error(
        `line ${line}: a block of language "${language}"; allowed: text, ${Object.keys(kinds).join(', ')}`,
      );
    const skip = /_Not run by the tests: ([^_]+)\._\s*$/.exec(before)?.[1] ?? null;
    const name = /^(?:#|\/\/) ([\w.-]+\.\w+)$/.exec(code.split('\n', 1)[0]!)?.[1];
    if (name !== undefined) blocks.push({ kind: 'file', line, code, name, prints: null, skip });
    else if (kind === 'program' && last?.kind === 'program' && !last.skip && !skip && !/^import\b/m.test(code))
      blocks[blocks.length - 1] = { ...last, code: `${last.code}\n${code}` };
    else blocks.push({ kind, line, code, prints: null, skip });
  }
  return blocks;
}

/**
 * What is alike in every run of a command: numbers with a fraction, sizes, shares, times and speeds vary with the machine and stand as `#`, and so
 * do spaces, with which columns are as wide as their numbers. Whole numbers without a unit stay.
 */
export function alike(printed: string): string {
  return printed
    .replaceAll(/\/tmp\/[\w.-]+\//g, '')
    .replaceAll(/\d[\d,]*(\.\d+)? ?(ns|µs|ms|s|B|KiB|MiB|GiB|MB|GB|%|examples\/s|ms\/step)(?![\w/])/g, '#')
    .replaceAll(/-?\d[\d,]*(\.\d+)(e-?\d+)?/g, '#')
    .replaceAll(/[ \t]+/g, ' ')
    .replaceAll(/ $/gm, '')
    .trim();
}

/** Whether a page tells what was printed, `…` standing for any lines. */
export function tells(page: string, printed: string): boolean {
  const pattern = alike(page)
    .split('\n')
    .map((line) => (line.trim() === '…' ? '[^]*' : line.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')))
    .join('\n')
    .replaceAll('\n[^]*\n', '\n[^]*')
    .replaceAll('[^]*\n', '[^]*');
  return new RegExp(`^${pattern}$`).test(alike(printed));
}
