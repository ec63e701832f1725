/** The options of an adapter, checked one by one and against each other. What depends on which rows there are is checked with those. */
import { checkOptionNames, FinetableError, HeUniformRows } from '@finetable/core';
import type { ShardedTable } from '@finetable/placement';
import { factorNames, groupNames, sharedNames, type AdapterOptions, type FactorOptions } from './options.ts';

/** Names of all options, and what an adapter has beside its factors. @throws INVALID_ARGUMENT; UNSUPPORTED for what needs the rows here */
export function checkAdapter(options: AdapterOptions, { name, needsFetch, devices }: ShardedTable): void {
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `${name}: ${message}`, { table: name });
  };
  checkOptionNames(name, options, namesOf(options), sharedNames);
  const { dropout = 0, maxNorm, groups = [], dora = false, grown } = options;
  if (typeof dropout !== 'number' || !(dropout >= 0 && dropout < 1))
    refuse(`dropout ${show(dropout)}; allowed: 0 or more and below 1`);
  if (maxNorm !== undefined && !(maxNorm > 0 && Number.isFinite(maxNorm)))
    refuse(`maxNorm ${show(maxNorm)}; allowed: a number above 0`);
  if (typeof dora !== 'boolean') refuse(`dora ${show(dora)}; allowed: true, false`);
  if (dora && maxNorm !== undefined) refuse('maxNorm goes without dora, which scales every dim');
  const reader = dora ? 'dora' : maxNorm === undefined ? null : 'maxNorm';
  if (reader && needsFetch) {
    throw new FinetableError(
      'UNSUPPORTED',
      `${name}: ${reader} reads whole base rows in every step, which cannot be waited for where they are on device "${devices[0]!.name}"; allowed: placement "ram" or "mapped", or no ${reader}`,
      { table: name, device: devices[0]!.name },
    );
  }
  if (!Array.isArray(groups)) refuse(`groups ${show(groups)}; allowed: a list`);
  const names = new Set<unknown>(['rest']);
  groups.forEach((group, i) => {
    checkOptionNames(`${name}: groups[${i}]`, group, namesOf(group), groupNames);
    // What files cannot hold is refused before hours of training, not after.
    if (typeof group.name !== 'string' || group.name === '' || names.has(group.name) || /\0|\p{Cs}/u.test(group.name))
      refuse(
        `group name ${show(group.name)}; allowed: text without NUL or half a surrogate pair, each once, and not "rest"`,
      );
    names.add(group.name);
  });
  if (grown === undefined || grown === 'tied') return;
  if (typeof grown !== 'object') refuse(`grown ${show(grown)}; allowed: "tied", or the factors of a group`);
  checkOptionNames(`${name}: grown`, grown, namesOf(grown));
}

/**
 * The factors of one group.
 * @param most the highest rank
 * @param where names the group in errors
 * @throws INVALID_ARGUMENT
 */
export function checkFactors(
  options: FactorOptions,
  table: ShardedTable,
  most: number,
  where: string,
  group: string,
): void {
  const { kind = 'lora', learningRate = 0, weightDecay = 0 } = options;
  oneOf('kind', kind, ['lora', 'dense']);
  rate('learningRate', learningRate);
  rate('weightDecay', weightDecay);
  if (options.kind === 'dense') return;
  const { rank, alpha = rank, rsLora = false, init = 'sparse', freeze, learningRateB } = options;
  if (!Number.isInteger(rank) || rank < 1 || rank > most) {
    const of = `, the smaller of the table's ${table.rows} rows and ${table.dim} dims`;
    refuse(
      `rank ${show(rank)}; allowed: an integer from 1 to ${most}${most === Math.min(table.rows, table.dim) ? of : ''}`,
    );
  }
  if (!Number.isFinite(alpha) || alpha <= 0) refuse(`alpha ${show(alpha)}; allowed: a number above 0`);
  if (typeof rsLora !== 'boolean') refuse(`rsLora ${show(rsLora)}; allowed: true, false`);
  if (!(init instanceof HeUniformRows)) oneOf('init', init, ['sparse', 'orthogonal', 'pissa', 'keras']);
  if (freeze !== undefined) oneOf('freeze', freeze, ['A', 'B']);
  rate('learningRateB', learningRateB ?? 0);
  const frozenB = freeze === 'B' || learningRateB === 0;
  if (freeze === 'B' && learningRateB !== undefined && learningRateB !== 0)
    refuse(`learningRateB ${learningRateB} with freeze "B"; allowed: one of them`);
  if (frozenB && init === 'keras')
    refuse('B is frozen at 0, so nothing would be trained; allowed with init sparse, orthogonal, pissa');

  function refuse(message: string): never {
    throw new FinetableError('INVALID_ARGUMENT', `${where}: ${message}`, { table: table.name, group });
  }
  function oneOf(name: string, value: string, allowed: readonly string[]): void {
    if (!allowed.includes(value)) refuse(`${name} ${show(value)}; allowed: ${allowed.join(', ')}`);
  }
  function rate(name: string, value: number): void {
    if (!Number.isFinite(value) || value < 0) refuse(`${name} ${show(value)}; allowed: 0 or more`);
  }
}

/** What is neither is refused by others. */
function namesOf(options: FactorOptions | null | undefined): Readonly<Record<string, true>> {
  return options?.kind === 'dense' ? factorNames.dense : factorNames.lora;
}

/** As in the program: texts in quotes, so that `"4"` is not taken for 4. */
function show(value: unknown): string {
  return typeof value === 'number' || value === undefined ? String(value) : JSON.stringify(value);
}
