/** What a finished run reads as a feature, as it was trained: serving is training without the steps. */
import { join, resolve } from 'node:path';
import { FinetableError } from '@finetable/core';
import { readFound, withFound, type DataSpec, type Loader } from '@finetable/data';
import { loadAdapterOf, type Adapter } from '@finetable/lora';
import { adaptersOf, withTransforms } from '../job/baseline.ts';
import { OpenJob } from '../job/open.ts';
import { featurePaths } from '../job/paths.ts';
import type { Job } from '../job/schema.ts';
import { Model } from '../model.ts';
import { ParameterGroup } from '../parameters.ts';
import { readResult, readRunJob } from '../run/run.ts';
import { optimizerOf } from '../job/optimizer.ts';
import type { Embedder, EmbedOptions } from './embed.ts';
import { loadedParts, reader } from './loaded.ts';

export async function openRunEmbedder(folder: string, options: EmbedOptions): Promise<Embedder> {
  const loaded = await readRunJob(folder);
  await readResult(folder);
  const feature = featureOf(folder, loaded.job, options.feature);
  const spec = loaded.job.features[feature]!;
  const job = only(loaded.job, feature);
  const found = await readFound(join(folder, 'data'));
  const open = await OpenJob.open({ ...loaded, job });
  let adapter: Adapter | null = null;
  const close = async (): Promise<void> => {
    adapter?.close();
    await open.close();
  };
  try {
    const table = open.tables[spec.table]!;
    const adapted = spec.table in adaptersOf(job);
    adapter = adapted ? await loadAdapterOf(join(folder, 'adapter'), table, spec.table) : null;
    const given = adapter ? { adapters: { [spec.table]: adapter } } : { tables: { [spec.table]: table } };
    const data: Omit<DataSpec, 'source'> = {
      features: { [feature]: { ...featurePaths(spec, (path) => resolve(folder, path)), removeCommon: undefined } as DataSpec['features'][string] }, // prettier-ignore
      labels: {},
      tables: { [spec.table]: { rows: table.rows } },
    };
    const model = async (loader: Loader): Promise<Model> => {
      const objective = withTransforms(reader(feature), job, open.noDirections());
      const made = new Model({ ...given, objective }, loader.data, {});
      await new ParameterGroup(made.parameters, objective, optimizerOf(job, 1)).loadValues(join(folder, 'objective.safetensors')); // prettier-ignore
      return made;
    };
    const parts = { data: withFound({ ...data, source: { rows: [] } }, found), model, normalize: options.normalize ?? comparesDirections(job) }; // prettier-ignore
    const reads = spec.tokens || spec.ngrams || spec.lookup || spec.hash ? 'text' : 'id';
    return {
      dim: table.dim,
      reads,
      readsFiles: true,
      parts: (input) => loadedParts(parts, input, options),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** @throws INVALID_ARGUMENT */
function featureOf(folder: string, { features }: Job, asked: string | undefined): string {
  const names = Object.keys(features);
  const [only] = names;
  if (asked !== undefined && names.includes(asked)) return asked;
  if (asked === undefined && names.length === 1) return only!;
  const problem = asked === undefined ? 'several features; name one' : `no feature "${asked}"`;
  throw new FinetableError('INVALID_ARGUMENT', `embed: ${folder} has ${problem}; allowed: ${names.join(', ')}`, {
    option: 'feature',
  });
}

/** The job with one table and one feature of it. */
function only(job: Job, feature: string): Job {
  const { table } = job.features[feature]!;
  const of = <T>(all: Readonly<Record<string, T>>): Record<string, T> => (table in all ? { [table]: all[table]! } : {});
  return {
    ...job,
    tables: of(job.tables),
    adapters: of(job.adapters),
    features: { [feature]: job.features[feature]! },
  };
}

/** Whether training read vectors by their directions alone. */
function comparesDirections({ objective }: Job): boolean {
  const { normalize, similarity } = objective as { readonly normalize?: boolean; readonly similarity?: string };
  return normalize === true || similarity === 'cosine';
}
