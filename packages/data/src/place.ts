/** What a task is at, as a message says it: the files, the lines or rows, and the bytes they lie in. */
import type { ErrorDetails } from '@finetable/core';
import type { TaskExamples } from './protocol.ts';
import type { FileIndex } from './source/source.ts';

export interface TaskPlace {
  readonly text: string;
  readonly details: ErrorDetails;
}

type Located = Pick<FileIndex, 'file' | 'examples' | 'text'>;

/** More files than these are only counted. */
const mostNamed = 3;

/**
 * Of examples by number, by file: `a.jsonl, lines 33 to 40 (bytes 256 to 320)`, of shuffled ones `a.jsonl, 8 of lines 2 to 90 (…)`. `details`: `file`, and where it is the only one
 * `examples`, `lines` and `bytes`, each the first and the last.
 * @param doing where it matters beside the examples
 */
export function placeOfExamples(
  { files }: { readonly files: readonly Located[] },
  name: string,
  { rows, given }: TaskExamples,
  doing?: string,
): TaskPlace {
  const numbers = rows ?? given.numbers;
  const found: Found[] = [];
  let first = 0;
  for (const file of files) {
    let [low, high, count] = [Infinity, -1, 0];
    for (const number of numbers) {
      if (number < first || number >= first + file.examples) continue;
      count++;
      low = Math.min(low, number - first);
      high = Math.max(high, number - first);
    }
    if (count > 0) found.push({ file, low, high, count });
    first += file.examples;
  }
  const places = found.slice(0, mostNamed).map(placeInFile);
  const more = found.length > mostNamed ? [`${found.length - mostNamed} more files`] : [];
  const text = [...(places.length === 0 ? [name] : places.map((place) => place.text)), ...more].join('; ');
  return {
    text: doing === undefined ? text : `${text}, ${doing}`,
    details: places.length === 1 ? places[0]!.details : { file: name },
  };
}

/** Numbers within the file, and how many there are from the one to the other. */
interface Found {
  readonly file: Located;
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

function placeInFile({ file: { file, text: places }, low, high, count }: Found): TaskPlace {
  const examples = [low + 1, high + 1];
  const some = count < high - low + 1 ? `${count} of ` : '';
  if (!places) return { text: `${file}, ${some}rows ${examples.join(' to ')}`, details: { file, examples } };
  const { stride, starts, lines } = places;
  const [from, to] = [Math.floor(low / stride), Math.floor(high / stride)];
  const bytes = [starts[from]!, starts[to + 1]!];
  const range = [lines[from]!, lines[to]!];
  const about = stride > 1 ? 'about ' : '';
  return {
    text: `${file}, ${some}${about}lines ${range.join(' to ')} (bytes ${bytes.join(' to ')})`,
    details: { file, examples, lines: range, bytes },
  };
}
