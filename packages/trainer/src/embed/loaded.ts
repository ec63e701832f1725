/** Vectors of what a loader reads, by a model that is not trained. */
import { matrix } from '@finetable/core';
import { openLoader, type DataSpec, type Loader } from '@finetable/data';
import { Ahead } from '../ahead.ts';
import type { Model } from '../model.ts';
import type { Objective } from '../objective.ts';
import type { EmbeddedPart, EmbedInput, EmbedOptions } from './embed.ts';

/** Examples of a batch: enough to be quick and to fill a row group, few enough to be bounded. */
const partExamples = 2048;

/** What reads a feature and learns nothing. */
export function reader(feature: string): Objective {
  return {
    inputs: [feature],
    labels: [],
    initialize: () => [],
    train: () => ({ loss: 0 }),
    evaluate: () => ({ sums: { loss: 0 } }),
    metrics: () => ({}),
  };
}

export interface LoadedParts {
  /** Of the one feature that is read; its source is the input. */
  readonly data: Omit<DataSpec, 'source'>;
  readonly model: (loader: Loader) => Model | Promise<Model>;
  readonly normalize: boolean;
}

/** In the order of the input, made in worker threads, no more at a time than the loader holds. */
export async function* loadedParts(
  { data, model: make, normalize }: LoadedParts,
  input: EmbedInput,
  { workers = 1, id, signal }: EmbedOptions,
): AsyncGenerator<EmbeddedPart> {
  const [[feature, spec]] = Object.entries(data.features) as [[string, DataSpec['features'][string]]];
  const column = ('column' in input ? input.column : undefined) ?? spec.column;
  // Values that workers have, in order: as many as the loader holds.
  const given: unknown[] = [];
  const values = 'values' in input ? iterate(input.values) : null;
  const first = await values?.next();
  if (first?.done) return; // which a loader takes for a mistake
  const source = 'file' in input ? { file: input.file } : { rows: rowsOf(first!.value, values!, column, given) };
  const loader = await openLoader(
    { ...data, source, features: { [feature]: { ...spec, column } }, ...(id !== undefined && { id: { column: id } }) },
    { batchSize: partExamples, workers, signal },
  );
  try {
    const model = await make(loader);
    const batches = new Ahead(model, loader.batches(0), true);
    try {
      for (let next = await batches.next(); next !== null; next = await batches.next()) {
        const { batch, pooled } = next;
        const made = (await model.embed(batch, pooled))[feature]!;
        const vectors = matrix(made.rows, made.cols, made.data.slice());
        if (normalize) model.kernels.normalizeRows(vectors, new Float32Array(vectors.rows));
        yield { vectors, keys: values ? given.splice(0, batch.size) : (batch.ids ?? Array.from(batch.lines)) };
      }
    } finally {
      await batches.close();
    }
  } finally {
    await loader.close();
  }
}

async function* iterate(values: Iterable<unknown> | AsyncIterable<unknown>): AsyncGenerator<unknown> {
  yield* values;
}

async function* rowsOf(
  first: unknown,
  others: AsyncIterable<unknown>,
  column: string,
  given: unknown[],
): AsyncGenerator<Record<string, unknown>> {
  const row = (value: unknown): Record<string, unknown> => {
    given.push(value);
    return { [column]: value };
  };
  yield row(first);
  for await (const value of others) yield row(value);
}
