/** Third stage: which combinations of options are tried. All of them where they are few; else one table is changed at a time. */
import type { Option } from './enumerate.ts';
import type { Candidate } from './partition.ts';

/** Plans tried one by one; each takes well under a millisecond for a few tables. */
const mostProposals = 640;

/** The best candidate: the least over its budgets, then the fastest; of equal ones the first. */
export function search(
  options: readonly (readonly Option[])[],
  evaluate: (proposal: readonly Option[]) => Candidate,
): Candidate {
  const count = options.reduce((product, { length }) => product * length, 1);
  return count <= mostProposals ? searchAll(options, evaluate) : searchOneByOne(options, evaluate);
}

function searchAll(
  options: readonly (readonly Option[])[],
  evaluate: (proposal: readonly Option[]) => Candidate,
): Candidate {
  const proposals = options.reduce<Option[][]>(
    (before, own) => before.flatMap((proposal) => own.map((option) => [...proposal, option])),
    [[]],
  );
  return proposals.map(evaluate).reduce((best, next) => (better(next, best) ? next : best));
}

/** From every table's last option on: the one that shares what room there is. */
function searchOneByOne(
  options: readonly (readonly Option[])[],
  evaluate: (proposal: readonly Option[]) => Candidate,
): Candidate {
  const proposal = options.map((own) => own.at(-1)!);
  let best = evaluate(proposal);
  for (let changed = true; changed;) {
    changed = false;
    for (const [t, own] of options.entries()) {
      for (const option of own) {
        const before = proposal[t]!;
        proposal[t] = option;
        const next = evaluate(proposal);
        if (better(next, best)) [best, changed] = [next, true];
        else proposal[t] = before;
      }
    }
  }
  return best;
}

/** By more than rounding errors of sums in another order. */
function better(a: Candidate, b: Candidate): boolean {
  if (a.shortBytes !== b.shortBytes) return a.shortBytes < b.shortBytes;
  return a.cost < b.cost * (1 - 1e-9);
}
