/** Adapters for several tables at once, whose ranks and alphas differ by the tables' names. */
import { FinetableError } from '@finetable/core';
import { isPlainModule, matchPattern } from '@finetable/formats';
import type { ShardedTable } from '@finetable/placement';
import { Adapter } from './adapter.ts';
import type { AdapterOptions } from './options.ts';

/** By the end of a table's name, as PEFT's patterns: `items` is for `items` and `shop.items`; a dot stands for any character; the first key that matches wins. */
export type Pattern = Readonly<Record<string, number>>;

/** Options of several tables' adapters, with ranks and alphas by table as PEFT's patterns have them. */
export type PatternOptions = AdapterOptions & {
  readonly rankPattern?: Pattern | undefined;
  /** For tables in `rankPattern` alone, alpha is the one of the options, or their rank. */
  readonly alphaPattern?: Pattern | undefined;
};

/**
 * A new adapter for each table.
 * @param tables by the names that patterns are matched with
 * @throws INVALID_ARGUMENT for a pattern that is no plain name, fits none of the tables, or is given with `kind: 'dense'`; else as `createAdapter`
 */
export function createAdapters(
  tables: Readonly<Record<string, ShardedTable>>,
  { rankPattern = {}, alphaPattern = {}, ...options }: PatternOptions,
): Record<string, Adapter> {
  const names = Object.keys(tables);
  const ranks = patternOf('rankPattern', rankPattern, names, options);
  const alphas = patternOf('alphaPattern', alphaPattern, names, options);
  const adapters: Record<string, Adapter> = {};
  try {
    for (const [name, table] of Object.entries(tables)) {
      const rank = matchPattern(ranks, name);
      const alpha = matchPattern(alphas, name);
      const own = { ...(rank !== undefined && { rank }), ...(alpha !== undefined && { alpha }) };
      adapters[name] = new Adapter(table, { ...options, ...own });
    }
    return adapters;
  } catch (error) {
    for (const adapter of Object.values(adapters)) adapter.close();
    throw error;
  }
}

function patternOf(
  field: string,
  pattern: Pattern,
  names: readonly string[],
  { kind }: AdapterOptions,
): ReadonlyMap<string, number> {
  const refuse = (found: string, allowed: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `${field}: ${found}; allowed: ${allowed}`, { path: field });
  };
  for (const [key, value] of Object.entries(pattern)) {
    if (kind === 'dense') refuse('with kind "dense", which has no rank', 'LoRA adapters');
    if (!isPlainModule(key)) refuse(`key ${JSON.stringify(key)}`, 'letters, digits, "_", "-" and "."');
    const one = new Map([[key, value]]);
    if (!names.some((name) => matchPattern(one, name) !== undefined))
      refuse(`key ${JSON.stringify(key)} fits no table`, `ends of ${names.join(', ')}`);
  }
  return new Map(Object.entries(pattern));
}
