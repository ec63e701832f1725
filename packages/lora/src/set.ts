/**
 * Several named adapters on one table: all, some or none of them active, or one of them for each example of a batch. What a lookup
 * uses is fixed when it begins: one that is under way while adapters change sees the old ones to its end.
 */
import { FinetableError, makePlan, matrix, planBags, range, type LookupPlan, type Matrix } from '@finetable/core';
import type { ShardedTable } from '@finetable/placement';
import type { Adapter } from './adapter.ts';
import { combineAdapters, type WeightedAdapter } from './combine/adapters.ts';
import type { CombineOptions } from './combine/combine.ts';
import { addMixed } from './mixed.ts';

/** Stands for no adapter. */
const baseName = 'base';

/** Named adapters of one table: switched, added up, combined, or one for each bag of a batch. Owns those that are added to it. */
export class AdapterSet {
  readonly table: ShardedTable;
  #adapters: ReadonlyMap<string, Adapter> = new Map();
  #active: readonly string[] = [];
  /** Lookups under way that use an adapter. */
  readonly #users = new Map<Adapter, number>();
  /** Removed while in use; closed with their last lookup. */
  readonly #leaving = new Set<Adapter>();
  #closed = false;

  constructor(table: ShardedTable) {
    this.table = table;
  }

  /** In the order that they were added. */
  get names(): string[] {
    return [...this.#adapters.keys()];
  }

  /** Whose deltas a lookup adds, in this order. */
  get active(): readonly string[] {
    return this.#active;
  }

  /** @throws NOT_FOUND */
  get(name: string): Adapter {
    const adapter = this.#adapters.get(name);
    if (adapter) return adapter;
    const names = this.names.map((n) => JSON.stringify(n)).join(', ') || 'none';
    throw new FinetableError(
      'NOT_FOUND',
      `${this.table.name}: no adapter ${JSON.stringify(name)}; there are ${names}`,
      {
        table: this.table.name,
        adapter: name,
      },
    );
  }

  /**
   * Adds an adapter, which the set closes from now on. It is not active yet.
   * @throws EXISTS; INVALID_ARGUMENT for the name `base` or an adapter of another table; UNSUPPORTED with `maxNorm`; CLOSED where it
   *   is closed, as one is that was deleted or replaced
   */
  add(name: string, adapter: Adapter): void {
    this.#checkNew(name);
    this.#put(name, adapter);
  }

  /** Puts an adapter in the place of the one with that name: lookups that begin later see the new one. @throws NOT_FOUND, as `add` */
  replace(name: string, adapter: Adapter): void {
    const old = this.get(name);
    this.#put(name, adapter);
    if (old !== adapter) this.#retire(old);
  }

  /** Removes an adapter, and frees it once no lookup uses it. @throws NOT_FOUND */
  delete(name: string): void {
    const old = this.get(name);
    this.#adapters = new Map([...this.#adapters].filter(([other]) => other !== name));
    this.#active = this.#active.filter((other) => other !== name);
    this.#retire(old);
  }

  /** From now on lookups add the deltas of these adapters. @throws NOT_FOUND; INVALID_ARGUMENT for a name twice */
  activate(...names: readonly string[]): void {
    for (const name of names) this.get(name);
    if (new Set(names).size < names.length)
      throw invalid(`${this.table.name}: an adapter is named twice: ${names.join(', ')}`);
    this.#active = [...names];
  }

  /** From now on lookups give base rows. */
  disable(): void {
    this.#active = [];
  }

  /**
   * E = Σ w (W + Σ s A B)[id] over the active adapters, into `out` (`[b, D]`, overwritten). With DoRA among them, each scales what the
   * ones before it made, as PEFT does.
   */
  lookup(plan: LookupPlan, out: Matrix): void {
    this.#checkOpen();
    const [first, ...others] = this.#active.map((name) => this.get(name));
    if (first) first.lookup(plan, out);
    else this.table.lookup(plan, out);
    for (const adapter of others) adapter.addDelta(plan, out);
  }

  /**
   * As `lookup`, the base rows pooled off the JavaScript thread, on devices too.
   * @param signal ends waiting for devices
   */
  async lookupAsync(plan: LookupPlan, out: Matrix, signal?: AbortSignal): Promise<void> {
    const adapters = this.#active.map((name) => this.get(name));
    await this.#using(adapters, async () => {
      await this.table.pool(plan, out, signal);
      for (const adapter of adapters) adapter.addDelta(plan, out);
    });
  }

  /**
   * Each bag with one adapter of its own, in one pass over all of them, whatever their ranks. Of one that was trained in exact mode
   * since it was added, the batch's rows are brought up to date first, which costs more than the pass; its `settle` spares that.
   * @param names of each bag; `base` for none
   * @param out `[b, D]`, overwritten
   * @throws NOT_FOUND; INVALID_ARGUMENT where there are more or fewer names than bags
   */
  lookupMixed(plan: LookupPlan, names: readonly string[], out: Matrix): void {
    const chosen = this.#choose(plan, names);
    this.table.lookup(plan, out);
    addMixed(this.table.kernels, plan, chosen, out);
  }

  /** As `lookupMixed`, the base rows pooled off the JavaScript thread. */
  async lookupMixedAsync(plan: LookupPlan, names: readonly string[], out: Matrix, signal?: AbortSignal): Promise<void> {
    const chosen = this.#choose(plan, names);
    await this.#using(
      [...new Set(chosen)].filter((adapter) => adapter !== null),
      async () => {
        await this.table.pool(plan, out, signal);
        addMixed(this.table.kernels, plan, chosen, out);
      },
    );
  }

  /** The vectors of these ids with the active adapters, `[ids.length, D]`, newly allocated. @throws ID_OUT_OF_RANGE */
  vectors(ids: Int32Array): Matrix {
    const out = matrix(ids.length, this.table.dim);
    this.lookup(makePlan({ values: ids, offsets: range(ids.length + 1) }, this.table.rows), out);
    return out;
  }

  /** Adds an adapter made of others; see `combineAdapters`. @throws as it and `add` do */
  combine(
    name: string,
    parts: readonly { readonly name: string; readonly weight: number }[],
    options: CombineOptions,
  ): Adapter {
    this.#checkOpen();
    this.#checkName(name);
    this.#checkNew(name);
    const weighted: WeightedAdapter[] = parts.map((part) => ({ adapter: this.get(part.name), weight: part.weight }));
    const combined = combineAdapters(weighted, options);
    this.#put(name, combined);
    return combined;
  }

  /** Frees all adapters once no lookup uses them; the table stays open. */
  close(): void {
    this.#closed = true;
    for (const adapter of this.#adapters.values()) this.#retire(adapter);
    this.#adapters = new Map();
    this.#active = [];
  }

  #put(name: string, adapter: Adapter): void {
    this.#checkOpen();
    this.#checkName(name);
    if (adapter.table !== this.table)
      throw invalid(
        `${this.table.name}: adapter ${JSON.stringify(name)} is one of another table, "${adapter.table.name}" with ${adapter.table.rows} rows; allowed: adapters of the set's own (${this.table.rows} rows)`,
      );
    for (const [other, known] of this.#adapters) {
      if (known === adapter && other !== name)
        throw invalid(`${this.table.name}: this adapter is there as ${JSON.stringify(other)}`);
    }
    if (!adapter.addsApart) {
      const message = `${this.table.name}: adapter ${JSON.stringify(name)} has maxNorm, which rescales the rows of the base for all; allowed: adapters without`;
      throw new FinetableError('UNSUPPORTED', message, { adapter: name });
    }
    if (this.#leaving.has(adapter) || adapter.groups.some(({ factors }) => factors.closed)) {
      const message = `${this.table.name}: adapter ${JSON.stringify(name)} is closed, or will be with the lookups that use it`;
      throw new FinetableError('CLOSED', message, { adapter: name });
    }
    adapter.settle();
    this.#adapters = new Map(this.#adapters).set(name, adapter);
  }

  #checkNew(name: string): void {
    if (!this.#adapters.has(name)) return;
    const message = `${this.table.name}: there is an adapter ${JSON.stringify(name)}; replace it`;
    throw new FinetableError('EXISTS', message, { adapter: name });
  }

  #checkName(name: string): void {
    if (typeof name !== 'string' || name === '' || name === baseName)
      throw invalid(
        `${this.table.name}: adapter name ${JSON.stringify(name)}; allowed: text other than "${baseName}", which stands for none`,
      );
  }

  #choose(plan: LookupPlan, names: readonly string[]): (Adapter | null)[] {
    this.#checkOpen();
    if (names.length !== planBags(plan))
      throw invalid(`${this.table.name}: ${names.length} adapter names for ${planBags(plan)} bags; allowed: one each`);
    const known = this.#adapters;
    return names.map((name) => known.get(name) ?? (name === baseName ? null : this.get(name)));
  }

  async #using(adapters: readonly Adapter[], work: () => Promise<void>): Promise<void> {
    this.#checkOpen();
    for (const adapter of adapters) this.#users.set(adapter, (this.#users.get(adapter) ?? 0) + 1);
    try {
      await work();
    } finally {
      for (const adapter of adapters) {
        const left = this.#users.get(adapter)! - 1;
        if (left > 0) this.#users.set(adapter, left);
        else {
          this.#users.delete(adapter);
          if (this.#leaving.delete(adapter)) adapter.close();
        }
      }
    }
  }

  #retire(adapter: Adapter): void {
    if (this.#users.has(adapter)) this.#leaving.add(adapter);
    else adapter.close();
  }

  #checkOpen(): void {
    if (this.#closed) throw new FinetableError('CLOSED', `${this.table.name}: the set of adapters is closed`, {});
  }
}

function invalid(message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', message);
}
