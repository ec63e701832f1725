/**
 * A frozen table whose rows lie in one or more places. The rows never change, so parts need no coherence: some may be in
 * RAM, others mapped from the file or on a device, and every result is the same.
 */
import {
  FinetableError,
  matrix,
  range,
  type LookupPlan,
  type Matrix,
  type RowDtype,
  type RowFormat,
  lowerBound,
} from '@finetable/core';
import type { Kernels, LookupDelta, RowStore, Shard } from '@finetable/kernels';
import type { DeviceLookup, DeviceRows } from './device.ts';
import { HotRowCache, type CacheOptions, type RowRange } from './cache.ts';
import { Fingerprint } from './fingerprint.ts';
import { nearestRows, type Nearest, type NearestOptions } from './nearest.ts';
import { OverlayRows } from './overlay.ts';
import { Fetched, type FetchedRows } from './fetched.ts';
import { checkCovered, type DevicePart, type OpenPart } from './parts.ts';
import { RawRows } from './raw.ts';
import { SharedParts } from './shared.ts';
import type { TableOrigin } from './source.ts';
import type { FileWatch } from './watch.ts';

/** What a table is made with beside its shards. */
export interface TableExtras {
  /** Of the table; default: that of the shards, which then hold whole rows. */
  readonly format?: RowFormat | undefined;
  readonly devices?: readonly DevicePart[] | undefined;
  readonly cache?: CacheOptions | undefined;
  /** The files that mapped rows are in. */
  readonly watch?: FileWatch | undefined;
  /** The file that all rows were read from. */
  readonly origin?: TableOrigin | undefined;
  /**
   * @internal Of a table in RAM whose rows are drawn when they are first read: writes those of these rows that are not there yet. Called
   * before every reading of rows.
   */
  readonly draw?: ((rows: Int32Array) => void) | undefined;
  /** @internal The table that this one adds rows to, and the parts that hold those: see `growTable`. */
  readonly growth?: { readonly base: ShardedTable; readonly added: readonly RowStore[] } | undefined;
}

type ComputingRows = DeviceRows & Required<Pick<DeviceRows, 'begin'>>;

/** A frozen table `[V, D]` whose rows lie in parts, in RAM, mapped or on devices. Opened by {@link openTable}; to be closed. Lookups give the same bytes wherever the parts lie. */
export class ShardedTable {
  readonly name: string;
  readonly rows: number;
  readonly dim: number;
  readonly dtype: RowDtype;
  /** Columns that share a scale; 0 without scales. */
  readonly groupDims: number;
  /** V before rows were added, the first time if it was grown more than once; null of a table that was opened or made. */
  readonly grownFrom: number | null;
  /** What the kernels read in place, as `LookupArgs.base` has it. Owned by the table, and by those grown from it. */
  readonly shards: readonly Shard[];
  /** Parts on devices. Owned likewise. */
  readonly devices: readonly DevicePart[];
  /** The hot-row cache, where the table was opened with one; shared with those grown from it. */
  readonly cache: HotRowCache | null;
  readonly kernels: Kernels;
  /** @internal The device that has all rows, if one has. */
  readonly deviceOfAll: DeviceRows | null;
  /** The file that its rows, but for those that were added, were read from; null where they come from memory. */
  readonly origin: TableOrigin | null;
  readonly #raw: RawRows;
  readonly #watch: FileWatch | null;
  readonly #draw: ((rows: Int32Array) => void) | undefined;
  readonly #overlay: OverlayRows | null;
  /** What lookups are given: `shards`, or none where no row is whole in them. */
  readonly #base: readonly Shard[];
  /** Rows with a part on a device. */
  readonly #away: readonly RowRange[];
  /** Slots of lookups that are over, to be used again. */
  readonly #spare: Int32Array[] = [];
  readonly #computing: ComputingRows | null;
  /** By how many rows they are of. */
  readonly #fingerprints: Map<number, string>;
  readonly #open: SharedParts;
  #closed = false;

  /** @param shards in the order of `LookupArgs.base`; with `extras.devices`, they hold every element of the table once */
  constructor(name: string, shards: readonly Shard[], kernels: Kernels, extras: TableExtras = {}) {
    const { devices = [], cache, growth } = extras;
    const { dtype, dim, groupDims } = extras.format ?? formatOf(name, shards);
    const parts: OpenPart[] = [
      ...shards.map(({ store, firstRow, firstColumn = 0 }) => ({
        store,
        firstRow,
        rows: store.rows,
        firstColumn,
        columns: store.dim,
      })),
      ...devices,
    ].sort((a, b) => a.firstColumn - b.firstColumn || a.firstRow - b.firstRow);
    this.name = name;
    this.rows = checkCovered(name, dim, parts);
    this.dim = dim;
    this.dtype = dtype;
    this.groupDims = groupDims;
    this.shards = shards;
    this.devices = devices;
    this.kernels = kernels;
    this.origin = growth ? growth.base.origin : (extras.origin ?? null);
    this.grownFrom = growth ? (growth.base.grownFrom ?? growth.base.rows) : null;
    this.#fingerprints = new Map(growth ? growth.base.#fingerprints : []);
    this.#watch = growth ? growth.base.#watch : (extras.watch ?? null);
    this.#draw = growth ? growth.base.#draw : extras.draw;
    this.#raw = new RawRows(name, { dtype, dim, groupDims }, parts, kernels);
    const columns = [...new Set(parts.map(({ firstColumn }) => firstColumn))];
    const whole = columns.every((column) => shards.some(({ firstColumn = 0 }) => firstColumn === column));
    this.#base = whole ? shards : [];
    this.#away = whole ? ranges(devices) : [{ begin: 0, end: this.rows }];
    const [only] = parts;
    const holder = parts.length === 1 && 'device' in only! ? only.device : null;
    this.deviceOfAll = holder;
    this.#computing = !cache && holder?.begin ? (holder as ComputingRows) : null;
    if (growth) {
      // The rows that were added are in RAM and so need no copies.
      this.cache = growth.base.cache;
      this.#overlay = growth.base.#overlay;
      this.#open = new SharedParts(growth.added, growth.base.#open);
      return;
    }
    const slow = ranges(parts.filter((part) => !('store' in part) || part.store.home !== 'ram'));
    this.cache = cache ? new HotRowCache(name, this.rows, this.#raw.format, slow, cache, kernels) : null;
    const [hotRows, stagedRows] = [this.cache?.capacity ?? 0, devices.length > 0 ? this.rows : 0];
    this.#overlay =
      hotRows + stagedRows > 0 ? new OverlayRows(name, this.#raw.format, hotRows, stagedRows, kernels) : null;
    const copies = [this.cache, this.#overlay].filter((part) => part !== null);
    this.#open = new SharedParts([
      ...copies,
      ...shards.map(({ store }) => store),
      ...devices.map(({ device }) => device),
    ]);
  }

  /** Bytes of all parts, wherever they are. */
  get sizeBytes(): number {
    const here = this.shards.reduce((sum, { store }) => sum + store.sizeBytes, 0);
    return this.devices.reduce((sum, { device }) => sum + device.sizeBytes, here);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Whether lookups need rows from devices, so that `lookup` and `gather` cannot do without waiting. */
  get needsFetch(): boolean {
    return this.devices.length > 0;
  }

  /** Whether one device has all rows and computes lookups of them, so that `begin` can be used and no row needs to be fetched. */
  get computes(): boolean {
    return this.#computing !== null;
  }

  /** Whether every row is in RAM, so that reading one never waits for a disk or a device. */
  get inMemory(): boolean {
    return this.devices.length === 0 && this.shards.every(({ store }) => store.home === 'ram');
  }

  /** Recognises these rows: sampled blocks and sizes, the same wherever the rows live. Computed once. */
  get fingerprint(): string {
    return this.fingerprintOf(this.rows);
  }

  /**
   * The fingerprint of a table of the first `rows` rows alone: so what was made before rows were added recognises its table.
   * Computed once for each `rows`.
   * @throws INVALID_ARGUMENT for rows that are not 1 to V; UNSUPPORTED where rows are on devices, but for all rows and those of
   *   the table that this one was grown from
   */
  fingerprintOf(rows: number): string {
    const known = this.#fingerprints.get(rows);
    if (known !== undefined) return known;
    const print = this.#fingerprinting(rows);
    this.#refuseDevices('fingerprint', 'computeFingerprint');
    const bytes = new Uint8Array(this.#raw.sizeBytes(print.rows.length));
    this.#draw?.(print.rows);
    this.#raw.readHere(print.rows, bytes);
    return this.#remember(rows, print.of(bytes));
  }

  /** @internal As `fingerprintOf`, of devices too; that has it from then on. */
  async computeFingerprint(rows = this.rows, signal?: AbortSignal): Promise<string> {
    const known = this.#fingerprints.get(rows);
    if (known !== undefined) return known;
    const print = this.#fingerprinting(rows);
    const bytes = new Uint8Array(this.#raw.sizeBytes(print.rows.length));
    this.#draw?.(print.rows);
    await this.#raw.read(print.rows, bytes, signal);
    return this.#remember(rows, print.of(bytes));
  }

  #fingerprinting(rows: number): Fingerprint {
    this.#checkOpen();
    if (Number.isInteger(rows) && rows >= 1 && rows <= this.rows) return new Fingerprint(rows, this.#raw.format);
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${this.name}: a fingerprint of ${rows} rows; allowed: 1 to ${this.rows}`,
      { table: this.name },
    );
  }

  #remember(rows: number, fingerprint: string): string {
    this.#fingerprints.set(rows, fingerprint);
    return fingerprint;
  }

  /** @internal Fills the cache from counts. */
  async fillCache(counts: ArrayLike<number>): Promise<void> {
    if (this.cache && this.#overlay) await this.cache.fillByCounts(counts, this.#raw, this.#overlay);
  }

  /**
   * Bag lookup into `out` (`[b, D]`, overwritten), with an adapter's delta where one is given; see `Kernels.lookup`.
   * @param fetched of this plan; needed where parts of the table are on devices
   * @throws MISMATCH where the plan was made for another number of rows, UNSUPPORTED without `fetched` where it is needed, CLOSED
   */
  lookup(
    plan: LookupPlan,
    out: Matrix,
    delta: LookupDelta | null = null,
    pooledFactors: Matrix | null = null,
    fetched: FetchedRows | null = null,
  ): void {
    this.#checkPlan(plan);
    if (fetched) {
      const rows = this.#checkFetched(fetched, plan);
      this.kernels.lookup({ base: this.#base, overlay: rows.overlay, plan, delta, out, pooledFactors });
      this.#count(rows);
      return;
    }
    this.#refuseDevices('lookup', 'fetch, or pool,');
    const found = this.#find(plan);
    try {
      this.kernels.lookup({ base: this.#base, overlay: found?.overlay ?? null, plan, delta, out, pooledFactors });
      if (found) this.#count(found);
    } finally {
      found?.release();
    }
  }

  /**
   * The base part of a lookup alone, `out` = Σ w W[id] (`[b, D]`, overwritten), off the JavaScript thread where the kernels can,
   * rows of devices included. `Kernels.addDelta` after it gives the same bytes as `lookup` with the delta. Plan and `out` must
   * not be changed or transferred until it settles; a table that is closed meanwhile ends it with CLOSED, or not at all.
   * @param signal ends waiting for devices
   * @throws as `lookup`, and what devices fail with; INTERRUPTED
   */
  async pool(plan: LookupPlan, out: Matrix, signal?: AbortSignal): Promise<void> {
    this.#checkPlan(plan);
    const found = this.needsFetch ? await this.#fetch(plan, signal) : this.#find(plan);
    try {
      await this.kernels.lookupAsync({ base: this.#base, overlay: found?.overlay ?? null, plan, out });
      if (found) this.#count(found);
    } finally {
      found?.release();
    }
  }

  /**
   * Brings the rows of a plan that lie on devices, and are not in the cache, into RAM for lookups of that plan.
   * @param signal ends waiting for devices
   * @throws what devices fail with; OUT_OF_MEMORY where too many rows are fetched and not released; INTERRUPTED, CLOSED
   */
  async fetch(plan: LookupPlan, signal?: AbortSignal): Promise<FetchedRows> {
    this.#checkPlan(plan);
    return this.#fetch(plan, signal);
  }

  /**
   * Begins a lookup on the device that has all rows; see `DeviceRows.begin`. Disposed by the caller.
   * @throws MISMATCH where the plan was made for another number of rows; UNSUPPORTED where the table is not one that `computes`; CLOSED
   */
  begin(plan: LookupPlan): DeviceLookup {
    this.#checkPlan(plan);
    if (this.#computing) return this.#computing.begin(plan);
    throw new FinetableError(
      'UNSUPPORTED',
      `${this.name}: no device computes its lookups: one that does must have all rows, without a cache before it; use lookup or pool`,
      { table: this.name },
    );
  }

  /**
   * The given rows decoded to f32.
   * @param out `[ids.length, D]`, overwritten; default: newly allocated
   * @throws ID_OUT_OF_RANGE, UNSUPPORTED where rows are on devices
   */
  gather(ids: Int32Array, out: Matrix = matrix(ids.length, this.dim)): Matrix {
    this.#checkIds(ids);
    this.#refuseDevices('gather', 'gatherAsync');
    return this.#gather(ids, out);
  }

  /** The rows from `grownFrom` on, decoded to f32, `[k, D]`, newly allocated; null of a table that was not grown. */
  gatherGrown(): Matrix | null {
    this.#checkOpen();
    const { grownFrom } = this;
    if (grownFrom === null) return null;
    const count = this.rows - grownFrom;
    return this.#gather(
      range(count).map((i) => grownFrom + i),
      matrix(count, this.dim),
    );
  }

  /** @param ids none with a part on a device */
  #gather(ids: Int32Array, out: Matrix): Matrix {
    const [whole, ...others] = this.shards;
    if (others.length === 0) {
      this.kernels.gatherRows(whole!.store, ids, out);
      return out;
    }
    for (const { store, firstRow, firstColumn = 0 } of this.shards) {
      const places: number[] = [];
      ids.forEach((id, i) => {
        if (id >= firstRow && id < firstRow + store.rows) places.push(i);
      });
      if (places.length === 0) continue;
      const local = Int32Array.from(places, (place) => ids[place]! - firstRow);
      const inPlace = places.length === ids.length && store.dim === this.dim;
      const part = inPlace ? out : matrix(places.length, store.dim);
      this.kernels.gatherRows(store, local, part);
      if (inPlace) continue;
      places.forEach((place, i) => {
        out.data.set(part.data.subarray(i * store.dim, (i + 1) * store.dim), place * this.dim + firstColumn);
      });
    }
    return out;
  }

  /** As `gather`, of rows on devices too. @throws ID_OUT_OF_RANGE, CLOSED, what devices fail with */
  async gatherAsync(ids: Int32Array, signal?: AbortSignal): Promise<Matrix> {
    this.#checkIds(ids);
    if (!this.needsFetch) return this.gather(ids);
    const rows = Int32Array.from(new Set(ids)).sort();
    const bytes = new Uint8Array(this.#raw.sizeBytes(rows.length));
    await this.#raw.read(rows, bytes, signal);
    const { dim, dtype, groupDims, kernels } = this;
    const store = kernels.createRows(rows.length, dim, dtype, groupDims);
    try {
      kernels.writeBytes(store, 0, bytes);
      const out = matrix(ids.length, dim);
      kernels.gatherRows(
        store,
        ids.map((id) => lowerBound(rows, id)),
        out,
      );
      return out;
    } finally {
      store.close();
    }
  }

  /**
   * @internal Stored bytes of whole rows: the elements of all, then the scales of all.
   * @param rows `[n] i32`, ascending @param out `[n * storedRowBytes]`, overwritten
   */
  async readStored(rows: Int32Array, out: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.#checkIds(rows);
    await this.#raw.read(rows, out, signal);
  }

  /**
   * The k nearest rows of each query (`[q, D]`), exactly, by one pass over the table off the JavaScript thread. Until it
   * settles, `queries` must not be changed. Where one device has all rows and can search, it does.
   * @throws INVALID_ARGUMENT (k beyond the rows), MISMATCH (dims), NON_FINITE (a query), OUT_OF_MEMORY, CLOSED; UNSUPPORTED
   *   where rows are on devices otherwise
   */
  nearest(queries: Matrix, k: number, options: NearestOptions = {}): Promise<Nearest> {
    this.#draw?.(range(this.rows));
    return nearestRows(this, queries, k, options, null);
  }

  /**
   * Looks at the files of mapped rows again, which takes microseconds. What cannot be noticed: a change that keeps size and
   * modification time; and a file that becomes shorter while native kernels read it ends the process (SIGBUS), since no look is
   * near enough to the read. Write a new file beside it and rename it, rather than writing to one that is open.
   * @throws INVALID_FILE where a file is not the one that was opened; NOT_FOUND, IO
   */
  async checkUnchanged(): Promise<void> {
    await this.#watch?.check(this.name, 'put it back as it was, or open the table again');
  }

  /** Frees every part that no open table grown from this one needs. Safe to call twice; later use throws CLOSED. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#open.release();
  }

  /** The cache's copies for a plan; null without a cache. Released by the caller. */
  #find(plan: LookupPlan): Fetched | null {
    if (!this.cache || !this.#overlay) return null;
    const found = this.#take(plan);
    found.hits = this.cache.find(plan, found.slots);
    return found;
  }

  #take(plan: LookupPlan): Fetched {
    return new Fetched(this, plan, this.#overlay!, this.#spare);
  }

  async #fetch(plan: LookupPlan, signal?: AbortSignal): Promise<Fetched> {
    const found = this.#take(plan);
    try {
      if (this.cache) found.hits = this.cache.find(plan, found.slots);
      else found.slots.fill(-1);
      const missing = found.missing(this.#away);
      found.pages = this.#overlay!.take(missing.length);
      // Not used again: a fetch that was given up may write to it later.
      const bytes = new Uint8Array(this.#raw.sizeBytes(missing.length));
      await this.#raw.read(missing, bytes, signal);
      this.#checkOpen();
      this.#overlay!.stage(found.pages, missing.length, bytes);
      found.staged(this.#away);
      return found;
    } catch (error) {
      found.release();
      throw error;
    }
  }

  #count({ plan, hits }: Fetched): void {
    this.cache?.count(plan, hits, this.#raw, this.#overlay!);
  }

  #checkPlan(plan: LookupPlan): void {
    this.#checkOpen();
    if (plan.tableRows === this.rows) {
      this.#draw?.(plan.uniqueRows);
      return;
    }
    throw new FinetableError(
      'MISMATCH',
      `${this.name}: the plan was made for ${plan.tableRows} rows, the table has ${this.rows}`,
      { table: this.name },
    );
  }

  #checkFetched(fetched: FetchedRows, plan: LookupPlan): Fetched {
    if (fetched instanceof Fetched && fetched.table === this && fetched.plan === plan && !fetched.released)
      return fetched;
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${this.name}: the fetched rows must be this plan's and not released`,
      { table: this.name },
    );
  }

  #checkIds(ids: Int32Array): void {
    this.#checkOpen();
    ids.forEach((id, place) => {
      if (id >= 0 && id < this.rows) return;
      throw new FinetableError(
        'ID_OUT_OF_RANGE',
        `${this.name}: id ${id} at place ${place}; allowed: 0 to ${this.rows - 1}`,
        { table: this.name, id, place },
      );
    });
    this.#draw?.(ids);
  }

  #checkOpen(): void {
    if (this.#closed) throw new FinetableError('CLOSED', `${this.name}: the table is closed`, { table: this.name });
  }

  #refuseDevices(what: string, instead: string): void {
    if (this.devices.length === 0) return;
    throw new FinetableError(
      'UNSUPPORTED',
      `${this.name}: ${what} cannot wait for rows on device "${this.devices[0]!.name}"; await ${instead} of the table first`,
      { table: this.name, device: this.devices[0]!.name },
    );
  }
}

function formatOf(name: string, shards: readonly Shard[]): RowFormat {
  const store = shards[0]?.store;
  if (!store) throw new FinetableError('INVALID_ARGUMENT', `${name}: a table needs at least one shard`);
  return { dtype: store.dtype as RowDtype, dim: store.dim, groupDims: store.groupDims };
}

/** The rows of these parts, as ascending ranges that do not touch. */
function ranges(parts: readonly OpenPart[]): RowRange[] {
  const out: RowRange[] = [];
  for (const { firstRow, rows } of [...parts].sort((a, b) => a.firstRow - b.firstRow)) {
    const last = out.at(-1);
    if (last && firstRow <= last.end)
      out[out.length - 1] = { begin: last.begin, end: Math.max(last.end, firstRow + rows) };
    else out.push({ begin: firstRow, end: firstRow + rows });
  }
  return out;
}
