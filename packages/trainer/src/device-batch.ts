/** The lookups of one batch that devices compute, of tables with adapters and frozen ones. */
import { matrix, type Matrix } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Adapter, AdapterGradients } from '@finetable/lora';
import type { DeviceLookup, DeviceMatrix, ShardedTable } from '@finetable/placement';

/** What was made ahead of a batch, by table: its base rows, pooled, or a lookup that a device has begun. */
export type PooledBatch = ReadonlyMap<string, Matrix | DeviceLookup>;

const isLookup = (made: Matrix | DeviceLookup): made is DeviceLookup => 'adapt' in made;

/** Frees what devices hold for a batch; also where it was trained on. */
export function releasePooled(pooled: PooledBatch | null | undefined): void {
  for (const made of pooled?.values() ?? []) if (isLookup(made)) made.dispose();
}

export class DeviceBatch {
  readonly #lookups = new Map<string, DeviceLookup>();
  readonly #adapters: ReadonlyMap<string, Adapter>;
  readonly #made: DeviceMatrix[] = [];

  /** @param pooled those that are not in it begin now */
  constructor(
    batch: Batch,
    tables: ReadonlyMap<string, ShardedTable>,
    adapters: ReadonlyMap<string, Adapter>,
    pooled: PooledBatch | null,
  ) {
    this.#adapters = adapters;
    for (const [name, plan] of Object.entries(batch.plans)) {
      const table = tables.get(name)!;
      if (!table.computes) continue;
      const early = pooled?.get(name);
      this.#lookups.set(name, early && isLookup(early) ? early : table.begin(plan));
    }
  }

  /** Tables. */
  get size(): number {
    return this.#lookups.size;
  }

  /** E of every table, on its device. @param keep what `gradients` needs */
  adapt(keep: boolean): ReadonlyMap<string, DeviceMatrix> {
    return new Map(
      [...this.#lookups].map(([name, lookup]) => {
        const e = this.#adapters.get(name)?.adapt(lookup, keep) ?? lookup.adapt([]);
        return [name, this.#hold(e)] as const;
      }),
    );
  }

  /** E of every table, copied into new matrices. */
  async read(es: ReadonlyMap<string, DeviceMatrix>): Promise<ReadonlyMap<string, Matrix>> {
    const reading = [...es].map(async ([name, e]) => {
      const out = matrix(e.rows, e.cols);
      await e.read(out);
      return [name, out] as const;
    });
    return new Map(await Promise.all(reading));
  }

  /** E by feature. */
  slice(es: ReadonlyMap<string, DeviceMatrix>, { features }: Batch): Record<string, DeviceMatrix> {
    const slices = Object.entries(features).map(([feature, { table, firstBag, bags }]) => {
      const e = es.get(table)!;
      return [feature, bags === e.rows ? e : this.#hold(e.rowsOf(firstBag, bags))] as const;
    });
    return Object.fromEntries(slices);
  }

  /** Of a table's adapter; null where no device computes it. */
  gradients(name: string, gradient: Matrix | readonly DeviceMatrix[]): Promise<AdapterGradients> | null {
    const lookup = this.#lookups.get(name);
    return lookup ? this.#adapters.get(name)!.deviceGradients(lookup, gradient) : null;
  }

  dispose(): void {
    for (const held of [...this.#lookups.values(), ...this.#made]) held.dispose();
  }

  #hold(made: DeviceMatrix): DeviceMatrix {
    this.#made.push(made);
    return made;
  }
}
