/** The options of `combineLowRank` checked against its parts. */
import { checkOptionNames, FinetableError, type OptionNames } from '@finetable/core';
import type { CombineOptions } from './combine.ts';
import { refuse, type WeightedDelta } from './lowrank.ts';
import { majoritySigns } from './merge.ts';
import { stackedRank } from './stack.ts';

/** Methods of PEFT that thin out the V x D product itself before it is factored. */
const prunedProducts = ['ties_svd', 'dare_linear_svd', 'dare_ties_svd', 'magnitude_prune_svd'];
const namesOf: { readonly [M in CombineOptions['method']]: OptionNames<Extract<CombineOptions, { method: M }>> } = {
  cat: { method: true },
  svd: { method: true, rank: true },
  linear: { method: true },
  magnitude_prune: { method: true, density: true, tableRows: true },
  ties: { method: true, density: true, tableRows: true, majoritySign: true },
  dare_linear: { method: true, density: true, seed: true },
  dare_ties: { method: true, density: true, seed: true, majoritySign: true },
};
const methods = Object.keys(namesOf);

/** @throws INVALID_ARGUMENT, UNSUPPORTED, ID_OUT_OF_RANGE */
export function checkOptions(parts: readonly WeightedDelta[], dim: number, options: CombineOptions): void {
  if (typeof (options as unknown) !== 'object' || (options as CombineOptions | null) === null)
    checkOptionNames('combine', options, namesOf.cat);
  const { method } = options;
  if (prunedProducts.includes(method)) {
    throw new FinetableError(
      'UNSUPPORTED',
      `combine: method ${method} prunes the V x D product of each delta, which is never built here; use ${method.slice(0, -4)}, and svd of its result for a smaller rank`,
      { method },
    );
  }
  if (!methods.includes(method)) {
    refuse(`method ${JSON.stringify(method)}; allowed: ${methods.join(', ')}`);
  }
  checkOptionNames(`combine by ${method}`, options, namesOf[method]);
  if (method === 'cat') return;
  if (method === 'svd') {
    checkRank(options.rank, stackedRank(parts), dim);
    return;
  }
  checkOneRank(parts, method);
  if (method === 'linear') return;
  checkDensity(options.density);
  if (method === 'ties' || method === 'dare_ties') checkMajoritySign(options.majoritySign ?? 'total');
  if (method === 'ties' || method === 'magnitude_prune') checkTrim(parts, options.density, options.tableRows);
}

function checkRank(rank: number, sum: number, dim: number): void {
  const most = Math.min(sum, dim);
  if (!Number.isInteger(rank) || rank < 1 || rank > most) {
    refuse(
      `rank ${rank}; allowed: an integer from 1 to ${most}, the smaller of ${sum}, the parts' ranks together, and ${dim} dims`,
    );
  }
}

function checkOneRank(parts: readonly WeightedDelta[], method: string): void {
  const ranks = parts.map(({ delta }) => delta.rank);
  if (new Set(ranks).size > 1) {
    refuse(`${method} merges factors of one rank, found ranks ${ranks.join(', ')}; cat and svd take any`);
  }
}

function checkDensity(density: number): void {
  if (!(density > 0 && density <= 1)) refuse(`density ${density}; allowed: more than 0, at most 1`);
}

function checkMajoritySign(sign: string): void {
  if (!majoritySigns.some((known) => known === sign)) {
    refuse(`majoritySign ${JSON.stringify(sign)}; allowed: ${majoritySigns.join(', ')}`);
  }
}

/** A factor that loses every value would make the whole result 0. */
function checkTrim(parts: readonly WeightedDelta[], density: number, tableRows: number): void {
  if (!Number.isSafeInteger(tableRows) || tableRows < 1)
    refuse(`tableRows ${tableRows}; allowed: a whole number from 1`);
  parts.forEach(({ delta: { rows, rank, b } }, p) => {
    const last = rows.at(-1) ?? -1;
    if (last >= tableRows) {
      throw new FinetableError('ID_OUT_OF_RANGE', `combine: parts[${p}] has row ${last} of a table with ${tableRows}`, {
        row: last,
      });
    }
    const fewest = Math.min(tableRows * rank, b.length);
    if (Math.floor(density * fewest) === 0) {
      refuse(
        `density ${density} keeps none of the ${fewest} values of a factor of parts[${p}]; allowed: from ${1 / fewest}`,
      );
    }
  });
}
