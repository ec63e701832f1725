/** Work on all threads, whose results come in order. */
import type { LoaderPlan } from './plan.ts';

/** As many at a time as there are threads; `take` gets the results in order, and none is held longer than its turn is to come. */
export async function inLanes<T, R>(
  items: readonly T[],
  { workers }: Pick<LoaderPlan, 'workers'>,
  run: (item: T) => Promise<R>,
  take: (result: R) => void,
): Promise<void> {
  const early = new Map<number, R>();
  let next = 0;
  let taken = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const i = next++;
      early.set(i, await run(items[i]!));
      for (; early.has(taken); taken++) {
        take(early.get(taken)!);
        early.delete(taken);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, workers) }, lane));
}
