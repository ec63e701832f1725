/** From a checked job to open tables, loaders, adapters and a trainer. */
import { resolve } from 'node:path';
import { isFinetableError, matrix, type Matrix } from '@finetable/core';
import { openLoader, withFound, type DataSpec, type FoundData, type Loader } from '@finetable/data';
import { loadKernels, type Kernels } from '@finetable/kernels';
import { createAdapter, loadAdapters, type Adapter } from '@finetable/lora';
import {
  openTable,
  type CacheOptions,
  type Home,
  type PlannedTable,
  type ShardedTable,
  type ShardSpec,
} from '@finetable/placement';
import { Trainer } from '../trainer.ts';
import { commonDirections } from '../objectives/without-common.ts';
import { adaptersOf, withTransforms } from './baseline.ts';
import { findDevice, type FoundDevice } from './device.ts';
import { growByJob } from './grow.ts';
import { loaderOptions } from './loader.ts';
import { kindOf } from './objectives/index.ts';
import { planJob, readFrequencies } from './plan.ts';
import { featurePaths, mapPaths, negativesPaths } from './paths.ts';
import type { LoadedJob } from './read.ts';
import { devicesAskedFor, type Job } from './schema.ts';
import { optimizerOf } from './optimizer.ts';

/** Everything that a job has open. Closing it closes all. */
export class OpenJob {
  readonly loaded: LoadedJob;
  readonly kernels: Kernels;
  readonly tables: Readonly<Record<string, ShardedTable>>;
  /** Why tables are not on a device, where that was left to the plan. */
  readonly notes: readonly string[];
  readonly #loaders: Loader[] = [];
  readonly #adapters: Adapter[] = [];

  private constructor(
    loaded: LoadedJob,
    kernels: Kernels,
    tables: Readonly<Record<string, ShardedTable>>,
    notes: readonly string[],
  ) {
    this.notes = notes;
    this.loaded = loaded;
    this.kernels = kernels;
    this.tables = tables;
  }

  /**
   * Plans, then opens the job's tables as planned.
   * @throws DOES_NOT_FIT before any memory is taken; UNSUPPORTED for a device that is not to be had; what `openTable` throws; nothing
   *   stays open then
   */
  static async open(loaded: LoadedJob): Promise<OpenJob> {
    const { job } = loaded;
    const kernels = loadKernels(job.train.threads === undefined ? {} : { threads: job.train.threads });
    const device = await findDevice(job);
    try {
      const tables = await openTables(loaded, kernels, device);
      return new OpenJob(loaded, kernels, tables, device.notes);
    } catch (error) {
      const optional = job.placement.device === 'auto' && devicesAskedFor(job).length === 0;
      if (!optional || !device.found || !isFinetableError(error) || error.code !== 'OUT_OF_MEMORY') throw error;
      const notes = [`${error.message}. Tables are placed in RAM and files`];
      return new OpenJob(loaded, kernels, await openTables(loaded, kernels, { found: null, notes }), notes);
    }
  }

  /**
   * A loader of the job's features and labels over a source. Shuffled only for training.
   * @param found in the training data; null where this is it
   */
  async loader(
    source: Job['data']['train'],
    use: 'train' | 'evaluate',
    found: FoundData | null,
    signal: AbortSignal | undefined,
  ): Promise<Loader> {
    const { job, folder } = this.loaded;
    const tables = Object.fromEntries(Object.entries(this.tables).map(([name, { rows }]) => [name, { rows }]));
    const sliceBy = use === 'evaluate' ? job.train.sliceBy : [];
    const data = dataSpec(job, source, folder, tables, sliceBy);
    const options = { ...loaderOptions(job, use), signal };
    const loader = await openLoader(found ? withFound(data, found) : data, options);
    this.#loaders.push(loader);
    return loader;
  }

  /** New adapters as the job describes them, by table. */
  createAdapters(): Record<string, Adapter> {
    const { job } = this.loaded;
    return Object.fromEntries(
      Object.entries(adaptersOf(job)).map(([table, options]) => {
        const adapter = createAdapter(this.tables[table]!, { ...options, seed: job.train.seed });
        this.#adapters.push(adapter);
        return [table, adapter];
      }),
    );
  }

  /** The adapters of a finished run, by table; none where the folder is absent because nothing was adapted. */
  async loadAdapters(folder: string): Promise<Record<string, Adapter>> {
    const names = Object.keys(adaptersOf(this.loaded.job));
    if (names.length === 0) return {};
    const loaded = await loadAdapters(folder, Object.values(this.tables));
    this.#adapters.push(...loaded);
    return Object.fromEntries(loaded.map((adapter) => [adapter.table.name, adapter]));
  }

  /** What the vectors of features have in common that are to be without it, by feature. @param loader of the training data */
  async commonDirections(loader: Loader, signal?: AbortSignal): Promise<Record<string, Matrix>> {
    const counts = Object.fromEntries(
      Object.entries(this.loaded.job.features).flatMap(([name, { removeCommon }]) =>
        removeCommon === undefined ? [] : [[name, removeCommon] as const],
      ),
    );
    return Object.keys(counts).length === 0 ? {} : commonDirections(loader, this.tables, counts, signal);
  }

  /**
   * @param loader of the data that it is for
   * @param common as `commonDirections` finds them; default: zeros, to be read from a result
   * @param steps of the whole training, for a schedule that does not say its own
   */
  async trainer(
    adapters: Readonly<Record<string, Adapter>>,
    { classes }: Pick<Loader, 'classes'>,
    common: Readonly<Record<string, Matrix>> = this.noDirections(),
    steps = 1,
  ): Promise<Trainer> {
    const frozen = Object.entries(this.tables).filter(([name]) => !(name in adapters));
    const { job, folder } = this.loaded;
    const tableOf = [
      ...Object.entries(job.features).map(([name, { table }]) => [name, table] as const),
      ...Object.entries(job.negatives).map(([name, { of }]) => [name, job.features[of]!.table] as const),
    ];
    const featureDims = Object.fromEntries(tableOf.map(([name, table]) => [name, this.tables[table]!.dim]));
    const numberDims = Object.fromEntries(
      Object.entries(job.numbers).map(([name, { column }]) => [name, typeof column === 'string' ? 1 : column.length]),
    );
    const context = { featureDims, numberDims, classes, seed: job.train.seed, folder };
    return new Trainer({
      tables: Object.fromEntries(frozen),
      adapters,
      objective: withTransforms(await kindOf(job.objective).create(job.objective, context), job, common),
      optimizer: optimizerOf(job, steps),
    });
  }

  /** Zeros in the shape of `commonDirections`. */
  noDirections(): Record<string, Matrix> {
    const features = Object.entries(this.loaded.job.features);
    return Object.fromEntries(
      features.flatMap(([name, { table, removeCommon }]) =>
        removeCommon === undefined ? [] : [[name, matrix(removeCommon, this.tables[table]!.dim)] as const],
      ),
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.#loaders.map((loader) => loader.close()));
    for (const adapter of this.#adapters) adapter.close();
    for (const table of Object.values(this.tables)) table.close();
  }
}

async function openTables(
  loaded: LoadedJob,
  kernels: Kernels,
  device: FoundDevice,
): Promise<Record<string, ShardedTable>> {
  const { job, folder } = loaded;
  const plan = await planJob(loaded, undefined, device);
  const tables: Record<string, ShardedTable> = {};
  try {
    for (const planned of plan.tables) {
      const { file, tensor, grow } = job.tables[planned.name]!;
      const [placement, cache] = [placementOf(planned, device), await cacheOf(planned, loaded)];
      const options = { name: planned.name, tensor, placement, cache, kernels };
      const table = await openTable(resolve(folder, file), options);
      tables[planned.name] = grow ? await growByJob(table, grow, folder) : table;
    }
    return tables;
  } catch (error) {
    for (const table of Object.values(tables)) table.close();
    throw error;
  }
}

/** Whole rows or whole columns, in order: each shard names both. */
function placementOf({ shards }: PlannedTable, { found }: FoundDevice): ShardSpec[] {
  return shards.map(({ device, rows, columns }) => ({
    home: device === found?.request.name ? found.device : (device as Home),
    rows,
    columns,
  }));
}

/** The cache that was planned in front of a table's shards, filled by the job's counts where it has them. */
async function cacheOf({ name, shards }: PlannedTable, { job, folder }: LoadedJob): Promise<CacheOptions | undefined> {
  const bytes = shards.reduce((sum, { cache }) => sum + (cache?.bytes ?? 0), 0);
  if (bytes === 0) return undefined;
  const { frequencies } = job.tables[name]!;
  return { bytes, ...(frequencies && 'counts' in frequencies ? await readFrequencies(frequencies, folder) : {}) };
}

function dataSpec(
  job: Job,
  source: Job['data']['train'],
  folder: string,
  tables: DataSpec['tables'],
  sliceBy: readonly string[],
): DataSpec {
  const { split, ...files } = source;
  const path = (file: string): string => resolve(folder, file);
  const { labels: read } = kindOf(job.objective).reads(job.objective);
  const labels = [...new Set([...read.map(({ name }) => name), ...sliceBy])];
  return {
    source: { ...files, file: mapPaths(files.file, path) },
    split,
    features: Object.fromEntries(
      // What becomes of vectors is not the loader's.
      Object.entries(job.features).map(([name, feature]) => [
        name,
        { ...featurePaths(feature, path), removeCommon: undefined } as DataSpec['features'][string],
      ]),
    ),
    histories: job.data.histories,
    negatives: Object.fromEntries(
      Object.entries(job.negatives).map(([name, negatives]) => [name, negativesPaths(negatives, path)]),
    ),
    labels: Object.fromEntries(
      labels.map((label) => {
        const { types: [otherwise] = [], classes } = read.find(({ name }) => name === label) ?? {};
        const { column = label, type = otherwise, ...options } = job.labels[label] ?? {};
        return [label, { ...options, column, type, classes }];
      }),
    ),
    numbers: job.numbers,
    weight: job.weight,
    id: job.id,
    badRows: job.data.badRows,
    tables,
  };
}
