/** `finetable vocabulary`: the words of data files by how often they are found. */
import { FinetableError, isFinetableError } from '@finetable/core';
import { buildVocabulary, type BuiltVocabulary, type CountedFeature, type VocabularySpec } from '@finetable/data';
import { checkOutput, writeFileAtomic } from '@finetable/formats';
import { exists } from '../convert/command.ts';
import { writeJson } from '../failure.ts';
import { formatCount } from '../format.ts';
import type { Io } from '../io.ts';
import { rowProgress } from '../merge/progress.ts';
import type { VocabularyOptions } from '../program.ts';

export async function vocabularyCommand(files: readonly string[], options: VocabularyOptions, io: Io): Promise<void> {
  const { output, overwrite, workers, skip } = options;
  if (!output.endsWith('.txt')) throw refuse(`--output: found "${output}"; allowed: .txt, beside which the counts go`);
  const countsPath = output.replace(/\.txt$/, '.counts.tsv');
  for (const path of [output, countsPath]) await checkOutput(path, { inputs: files, overwrite }).catch(withRemedy);
  const progress = rowProgress(io.stderr, 'counting');
  try {
    const built = await buildVocabulary({ file: files }, featureOf(options), {
      workers,
      badRows: skip === undefined ? 'error' : { skip },
      onProgress: progress.update,
      signal: io.signal,
    });
    progress.close();
    const { words, left } = await write(built, output, countsPath);
    tell(built, { words, left, output, countsPath }, options, io);
  } finally {
    progress.close();
  }
}

function featureOf(options: VocabularyOptions): CountedFeature {
  const { column, minCount, maxWords, values, pattern, split, standardize, lowercase, ngrams } = options;
  const vocabulary = { minCount, maxWords };
  if (!values) {
    const tokens: VocabularySpec = { vocabulary, pattern, split, standardize, ngrams };
    return { column, tokens: lowercase ? tokens : { ...tokens, lowercase } };
  }
  const given = Object.entries({ pattern, split, standardize, ngrams }).find(([, value]) => value !== undefined);
  if (given ?? !lowercase) throw refuse(`--${given?.[0] ?? 'no-lowercase'} goes with words, not with --values`);
  return { column, lookup: { vocabulary } };
}

/** Words that have no line of their own are left out. */
async function write(
  { words, counts }: BuiltVocabulary,
  output: string,
  countsPath: string,
): Promise<{ readonly words: number; readonly left: number }> {
  let kept = 0;
  const isLine = (word: string): boolean => word !== '' && !/[\r\n]/.test(word);
  await writeFileAtomic(
    countsPath,
    linesOf(words, (word, i) => (isLine(word) ? `${word}\t${counts[i]!}\n` : '')),
  );
  await writeFileAtomic(
    output,
    linesOf(words, (word) => {
      if (!isLine(word)) return '';
      kept++;
      return `${word}\n`;
    }),
  );
  return { words: kept, left: words.length - kept };
}

/** In pieces: all of them together may be more than a string holds. */
async function* linesOf(words: readonly string[], line: (word: string, i: number) => string): AsyncGenerator<Buffer> {
  const piece = 65_536;
  for (let first = 0; first < words.length; first += piece) {
    const lines = words.slice(first, first + piece).map((word, i) => line(word, first + i));
    yield await Promise.resolve(Buffer.from(lines.join('')));
  }
}

interface Told {
  readonly words: number;
  readonly left: number;
  readonly output: string;
  readonly countsPath: string;
}

function tell({ examples, skipped }: BuiltVocabulary, told: Told, { json }: VocabularyOptions, io: Io): void {
  const { words, left, output, countsPath } = told;
  if (json) {
    writeJson(io, { written: { words: output, counts: countsPath }, words, leftOut: left, examples, skipped });
    return;
  }
  io.stdout.write(
    `${output}: ${formatCount(words)} words of ${formatCount(examples)} rows\n${countsPath}: their counts\n`,
  );
  if (left > 0) io.stdout.write(`left out: ${formatCount(left)} that are empty or have line breaks\n`);
  if (skipped.count > 0) {
    const shown = skipped.problems.slice(0, 3).map((problem) => `\n  ${problem}`);
    io.stdout.write(`skipped: ${formatCount(skipped.count)} bad rows${shown.join('')}\n`);
  }
}

function withRemedy(error: unknown): never {
  if (isFinetableError(error) && error.code === 'EXISTS' && typeof error.details.file === 'string')
    throw exists(error.details.file);
  throw error;
}

const refuse = (message: string): FinetableError => new FinetableError('INVALID_ARGUMENT', `vocabulary: ${message}`);
