/** Examples as tasks get them: by number, or, of an array, themselves. */
import type { Histories } from './histories/histories.ts';
import type { TaskExamples } from './protocol.ts';
import type { Row } from './spec.ts';

/** @param all of an array that is to be sent along; else null @param numbers of rows, or of interactions */
export function examplesOf(
  all: readonly Row[] | null,
  histories: Histories | null,
  name: string,
  numbers: Uint32Array,
): TaskExamples {
  if (!all) return { rows: numbers };
  const rows = Array.from(numbers, (number) => all[histories ? histories.rows[number]! : number]);
  return { given: { name, rows, numbers } };
}

/** The same by numbers of rows, for errors. */
export function rowsOf({ rows, given }: TaskExamples, histories: Histories | null): TaskExamples {
  const numbers = rows ?? given.numbers;
  return { rows: histories ? numbers.map((number) => histories.rows[number]!) : numbers };
}
