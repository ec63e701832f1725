/**
 * Tables whose rows are drawn when they are first read: making one takes no time, and memory for the rows that are read. A row depends
 * on the seed and its number alone, whatever the order of reading.
 */
import { FinetableError, matrix, RandomStream, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { ShardedTable } from '@finetable/placement';
import type { Initializer } from '../layer/tfjs-types.ts';

export interface DrawnTable {
  readonly table: ShardedTable;
  /** The initializer as `{className, config}`, with the seed that was used: made from it, the rows are the same. */
  readonly initializer: { readonly className: string; readonly config: Readonly<Record<string, unknown>> };
}

/** Of initializers, by what tfjs calls them; each has some. */
interface Config {
  readonly value: number;
  readonly minval: number;
  readonly maxval: number;
  readonly mean: number;
  readonly stddev: number;
  readonly scale: number;
  readonly mode: string;
  readonly distribution: string;
  readonly seed: number | null | undefined;
}

/** Fills `out` with elements `start .. start + out.length` of the table, row by row. */
type Fill = (random: RandomStream, out: Float32Array, start: number) => void;

const uniform =
  (low: number, high: number): Fill =>
  (random, out, start) =>
    random.fillUniform(out, low, high, start);

/** By what tfjs calls them in a config. Those with each element drawn alone. */
const fills: Readonly<Record<string, (config: Config, v: number, d: number) => Fill | null>> = {
  Zeros: () => (_, out) => out.fill(0),
  Ones: () => (_, out) => out.fill(1),
  Constant:
    ({ value }) =>
    (_, out) =>
      out.fill(value),
  RandomUniform: ({ minval, maxval }) => uniform(minval, maxval),
  RandomNormal:
    ({ mean, stddev }) =>
    (random, out, start) => {
      random.fillNormal(out, stddev, start);
      if (mean !== 0) for (let i = 0; i < out.length; i++) out[i]! += mean;
    },
  // Glorot's, He's and LeCun's. The normal ones are truncated in tfjs.
  VarianceScaling: ({ scale, mode, distribution }, v, d) => {
    if (distribution !== 'uniform') return null;
    const fan = mode === 'fanIn' ? v : mode === 'fanOut' ? d : (v + d) / 2;
    const limit = Math.sqrt((3 * scale) / Math.max(1, fan));
    return uniform(-limit, limit);
  },
};

/**
 * @throws UNSUPPORTED for an initializer that needs the whole table, or whose elements tfjs does not draw one by one
 */
export function drawTable(name: string, v: number, d: number, initializer: Initializer): DrawnTable {
  const className = initializer.getClassName();
  const config = initializer.getConfig() as unknown as Config;
  const fill = fills[className]?.(config, v, d);
  if (!fill) {
    throw new FinetableError(
      'UNSUPPORTED',
      `${name}: initializer ${className} cannot draw single rows of a table this large; allowed: zeros, ones, constant, randomUniform, randomNormal, and glorotUniform, heUniform, leCunUniform; or give \`table\``,
      { initializer: className },
    );
  }
  // What tfjs leaves to chance when it draws; kept, so that a saved layer has the same rows again.
  const seed = config.seed ?? Math.floor(Math.random() * 2 ** 31);
  const random = new RandomStream(seed, 'embeddings');
  const kernels = loadKernels();
  const store = kernels.createRows(v, d, 'f32');
  const drawn = new Uint8Array(v);
  const draw = (rows: Int32Array): void => {
    const missing = rows.filter((row) => drawn[row] === 0 && (drawn[row] = 1));
    if (missing.length === 0) return;
    const values: Matrix = matrix(missing.length, d);
    missing.forEach((row, i) => fill(random, values.data.subarray(i * d, (i + 1) * d), row * d));
    kernels.scatterRows(store, missing, values);
  };
  const drawsNothing = ['Zeros', 'Ones', 'Constant'].includes(className);
  return {
    table: new ShardedTable(name, [{ store, firstRow: 0 }], kernels, { draw }),
    initializer: { className, config: drawsNothing ? { ...config } : { ...config, seed } },
  };
}
