/** What a job is compared with: the same job with its tables frozen, trained in full, or mapped as a whole. */
import type { Matrix } from '@finetable/core';
import type { Objective } from '../objective.ts';
import { mapped } from '../objectives/mapped.ts';
import { withoutCommon } from '../objectives/without-common.ts';
import type { Job } from './schema.ts';

/** The adapters that the job trains: those it describes, none, or a full delta for each row that is touched. */
export function adaptersOf({ baseline, adapters }: Pick<Job, 'baseline' | 'adapters'>): Job['adapters'] {
  if (baseline === 'none') return adapters;
  if (baseline !== 'full') return {};
  return Object.fromEntries(
    Object.entries(adapters).map(([table, { learningRate, weightDecay, paddingRow }]) => [
      table,
      { kind: 'dense', learningRate, weightDecay, paddingRow },
    ]),
  );
}

/** The objective as the job trains it: over vectors without what they have in common, then, with `map`, mapped. */
export function withTransforms(objective: Objective, job: Job, common: Readonly<Record<string, Matrix>>): Objective {
  const over = withBaseline(objective, job);
  return Object.keys(common).length > 0 ? withoutCommon(over, common) : over;
}

/** With `map`, over mapped vectors of the tables that it would adapt. */
function withBaseline(objective: Objective, { baseline, adapters, features }: Job): Objective {
  if (baseline !== 'map') return objective;
  const maps = Object.entries(features).filter(([, { table }]) => table in adapters);
  return mapped(
    objective,
    Object.fromEntries(maps.map(([feature, { table }]) => [feature, table])),
    Object.fromEntries(
      maps.map(([, { table }]) => {
        const { learningRate, weightDecay } = adapters[table]!;
        return [table, { learningRate, weightDecay }];
      }),
    ),
  );
}
