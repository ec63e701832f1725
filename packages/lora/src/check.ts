/** The factors of a group as they are asked for. */
import { HeUniformRows } from '@finetable/core';
import type { ShardedTable } from '@finetable/placement';
import type { AdapterRates, FactorOptions, LoraOptions } from './options.ts';

/** What a dense delta has no use for. */
const loraOnly = ['rank', 'alpha', 'rsLora', 'init', 'learningRateB', 'freeze'] as const;

type Refuse = (message: string) => never;

/** @param most rank of LoRA factors @param refuse with what was found and what is allowed */
export function checkFactors(options: FactorOptions, table: ShardedTable, most: number, refuse: Refuse): void {
  const kind: unknown = options.kind ?? 'lora';
  if (kind !== 'lora' && kind !== 'dense') refuse(`kind ${JSON.stringify(kind)}; allowed: lora, dense`);
  checkRates(options, refuse);
  if (options.kind !== 'dense') {
    checkLora(options, table, most, refuse);
    return;
  }
  const given: Partial<LoraOptions> = options as object;
  const other = loraOnly.find((name) => given[name] !== undefined);
  if (other) refuse(`${other} with kind "dense", which has no A and B; allowed: learningRate, weightDecay`);
}

function checkRates(options: AdapterRates & Partial<Pick<LoraOptions, 'learningRateB'>>, refuse: Refuse): void {
  for (const name of ['learningRate', 'weightDecay', 'learningRateB'] as const) {
    const rate = options[name];
    if (rate !== undefined && !(Number.isFinite(rate) && rate >= 0))
      refuse(`${name} ${rate}; allowed: a number of 0 or more`);
  }
}

function checkLora(options: LoraOptions, table: ShardedTable, most: number, refuse: Refuse): void {
  const { rank, alpha = rank, init = 'sparse', freeze, learningRateB } = options;
  if (!Number.isInteger(rank) || rank < 1 || rank > most) {
    const of = `, the smaller of the table's ${table.rows} rows and ${table.dim} dims`;
    refuse(`rank ${rank}; allowed: an integer from 1 to ${most}${most === Math.min(table.rows, table.dim) ? of : ''}`);
  }
  if (!Number.isFinite(alpha) || alpha <= 0) refuse(`alpha ${alpha}; allowed: a number above 0`);
  if (!(init instanceof HeUniformRows)) oneOf('init', init, ['sparse', 'orthogonal', 'pissa', 'keras']);
  if (freeze !== undefined) oneOf('freeze', freeze, ['A', 'B']);
  if (freeze === 'B' && learningRateB) refuse(`learningRateB ${learningRateB} with freeze "B"; allowed: one of them`);

  function oneOf(name: string, value: string, allowed: readonly string[]): void {
    if (!allowed.includes(value)) refuse(`${name} ${JSON.stringify(value)}; allowed: ${allowed.join(', ')}`);
  }
}
