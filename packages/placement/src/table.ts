/**
 * A frozen table whose rows lie in one or more places. The rows never change, so shards need no coherence: a range may be
 * in RAM and the next one mapped from the file, and every result is the same.
 */
import { FinetableError, matrix, range, type LookupPlan, type Matrix, type RowDtype } from '@finetable/core';
import { loadKernels, type Delta, type Kernels, type Shard } from '@finetable/kernels';
import { fingerprintOf } from './fingerprint.ts';
import { findRows } from './source.ts';

/** `mapped`: read in place, opened at once whatever its size. `ram`: copied, in huge pages where the system has them. */
export type Home = 'ram' | 'mapped';

/** The next `rows` rows of a table, and where they live; the last shard of a list may leave `rows` out. */
export interface ShardSpec {
  readonly home: Home;
  readonly rows?: number | undefined;
}

export interface OpenTableOptions {
  /** For errors and adapter files; default: the file's name without its ending. */
  readonly name?: string | undefined;
  /** Which tensor of a safetensors file. */
  readonly tensor?: string | undefined;
  /** One home for all rows (default `mapped`), or row-wise shards in order. */
  readonly placement?: Home | readonly ShardSpec[] | undefined;
  readonly kernels?: Kernels | undefined;
}

export class ShardedTable {
  readonly name: string;
  readonly rows: number;
  readonly dim: number;
  readonly dtype: RowDtype;
  /** Ascending ranges that cover all rows. Owned by the table. */
  readonly shards: readonly Shard[];
  readonly kernels: Kernels;
  #fingerprint: string | undefined;

  constructor(name: string, shards: readonly Shard[], kernels: Kernels) {
    const first = shards[0];
    if (!first) throw new FinetableError('INVALID_ARGUMENT', `${name}: a table needs at least one shard`);
    let rows = 0;
    for (const { store, firstRow } of shards) {
      if (firstRow !== rows) {
        throw new FinetableError(
          'INVALID_ARGUMENT',
          `${name}: a shard starts at row ${firstRow}, must start at ${rows}`,
        );
      }
      if (store.dim !== first.store.dim) {
        throw new FinetableError(
          'INVALID_ARGUMENT',
          `${name}: a shard has ${store.dim} dims, the first has ${first.store.dim}`,
        );
      }
      rows += store.rows;
    }
    this.name = name;
    this.rows = rows;
    this.dim = first.store.dim;
    this.dtype = first.store.dtype as RowDtype;
    this.shards = shards;
    this.kernels = kernels;
  }

  get sizeBytes(): number {
    return this.shards.reduce((sum, { store }) => sum + store.sizeBytes, 0);
  }

  /** Recognises these rows: sampled blocks and sizes, the same wherever the rows live. Computed once. */
  get fingerprint(): string {
    this.#fingerprint ??= fingerprintOf(this);
    return this.#fingerprint;
  }

  /**
   * Bag lookup into `out` (`[b, D]`, overwritten), with an adapter's delta where one is given; see `Kernels.lookup`.
   * @throws MISMATCH where the plan was made for another number of rows
   */
  lookup(plan: LookupPlan, out: Matrix, delta: Delta | null = null, pooledFactors: Matrix | null = null): void {
    if (plan.tableRows !== this.rows) {
      throw new FinetableError(
        'MISMATCH',
        `${this.name}: the plan was made for ${plan.tableRows} rows, the table has ${this.rows}`,
        { table: this.name },
      );
    }
    this.kernels.lookup({ base: this.shards, plan, delta, out, pooledFactors });
  }

  /** The given rows decoded to f32, `[ids.length, D]`, newly allocated. @throws ID_OUT_OF_RANGE */
  gather(ids: Int32Array): Matrix {
    const out = matrix(ids.length, this.dim);
    const local = new Int32Array(1);
    ids.forEach((id, i) => {
      if (id < 0 || id >= this.rows) {
        throw new FinetableError(
          'ID_OUT_OF_RANGE',
          `${this.name}: id ${id} at place ${i}; allowed: 0 to ${this.rows - 1}`,
          { table: this.name, id, place: i },
        );
      }
      const shard = this.shards.findLast(({ firstRow }) => firstRow <= id)!;
      local[0] = id - shard.firstRow;
      this.kernels.gatherRows(
        shard.store,
        local,
        matrix(1, this.dim, out.data.subarray(i * this.dim, (i + 1) * this.dim)),
      );
    });
    return out;
  }

  /** Frees every shard. Safe to call twice. */
  close(): void {
    for (const { store } of this.shards) store.close();
  }
}

/**
 * Opens a table from a safetensors file (or its `.index.json`) or a `.npy` file. Mapped shards are not read: this takes
 * milliseconds at any size.
 * @throws NOT_FOUND, INVALID_FILE, INVALID_ARGUMENT, OUT_OF_MEMORY, IO; nothing stays open then
 */
export async function openTable(path: string, options: OpenTableOptions = {}): Promise<ShardedTable> {
  const kernels = options.kernels ?? loadKernels();
  const file = await findRows(path, options.tensor);
  const name = options.name ?? path.replace(/^.*[/\\]/, '').replace(/\.[^.]*$/, '');
  const opened: Shard[] = [];
  try {
    for (const { home, firstRow, rows } of ranges(name, file.rows, options.placement ?? 'mapped')) {
      const part = { firstRow, rows, firstColumn: 0, columns: file.dim };
      opened.push({ store: kernels.openRows(file, home, part), firstRow });
    }
    return new ShardedTable(name, opened, kernels);
  } catch (error) {
    for (const { store } of opened) store.close();
    throw error;
  }
}

/** A table of given values, copied into RAM. For small tables and tests. @param values `[V, D]` */
export function createTable(
  name: string,
  values: Matrix,
  options: { dtype?: RowDtype; kernels?: Kernels } = {},
): ShardedTable {
  const kernels = options.kernels ?? loadKernels();
  const store = kernels.createRows(values.rows, values.cols, options.dtype ?? 'f32');
  kernels.scatterRows(store, range(values.rows), values);
  return new ShardedTable(name, [{ store, firstRow: 0 }], kernels);
}

function ranges(
  name: string,
  total: number,
  placement: Home | readonly ShardSpec[],
): { home: Home; firstRow: number; rows: number }[] {
  const specs = typeof placement === 'string' ? [{ home: placement }] : placement;
  let firstRow = 0;
  const out = specs.map(({ home, rows }, i) => {
    const last = i === specs.length - 1;
    const count = rows ?? (last ? total - firstRow : 0);
    if (!Number.isSafeInteger(count) || count <= 0) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${name}: shard ${i} has ${rows ?? 'no'} rows; allowed: a positive number, left out only for the last`,
      );
    }
    const range = { home, firstRow, rows: count };
    firstRow += count;
    return range;
  });
  if (firstRow !== total) {
    throw new FinetableError('INVALID_ARGUMENT', `${name}: the shards hold ${firstRow} rows, the table has ${total}`, {
      table: name,
    });
  }
  return out;
}
