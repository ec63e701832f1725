/** What is said where a training comes to something that is not a number. */
import { FinetableError, type LookupPlan } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { ShardedTable } from '@finetable/placement';

export function nonFinite(what: string, batch: Batch): FinetableError {
  return new FinetableError(
    'NON_FINITE',
    `${what} is not finite in epoch ${batch.epoch}, batch ${batch.index} (${linesOf(batch)}); a lower learning rate usually helps`,
    { epoch: batch.epoch, batch: batch.index },
  );
}

/** Names the row behind a value that is not a number: a row of the base, or what training made of it. */
export function badRow(name: string, table: ShardedTable, plan: LookupPlan, bag: number, batch: Batch): FinetableError {
  for (let place = plan.offsets[bag]!; place < plan.offsets[bag + 1]!; place++) {
    if (table.needsFetch) break; // it cannot be looked at without waiting
    const row = plan.placeRows[place]!;
    if (!table.gather(Int32Array.of(row)).data.every(Number.isFinite)) {
      return new FinetableError(
        'NON_FINITE',
        `table "${name}": row ${row} holds a value that is not finite (${linesOf(batch)}); repair the base table`,
        { table: name, row },
      );
    }
  }
  const what = table.needsFetch ? 'a row' : 'an adapted row';
  return new FinetableError(
    'NON_FINITE',
    `table "${name}": ${what} is not finite (${linesOf(batch)}); a lower learning rate usually helps`,
    { table: name },
  );
}

/** Where a batch's examples come from, and their names where they have some, short enough for a message. */
function linesOf({ files, fileOf, lines, unit, ids }: Batch): string {
  const shown = [...lines.subarray(0, 5)].map((line, i) =>
    files.length > 1 ? `${files[fileOf![i]!]!}:${line}` : String(line),
  );
  const more = lines.length > 5 ? ` and ${lines.length - 5} more` : '';
  const names = ids ? `: ${ids.slice(0, 5).map((id) => JSON.stringify(id)).join(', ')}${more}` : ''; // prettier-ignore
  return `${unit}s ${shown.join(', ')}${more}${names}`;
}
