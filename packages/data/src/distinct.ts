/**
 * An order of examples in which no batch has two of the same key: as it was, but that an example whose key the batch has already waits
 * for a later batch. Keys that have just as many examples left as there are batches go into each of them, so that the last
 * batches do not end up with what does not go together.
 */
import { FinetableError, lowerBound } from '@finetable/core';
import { hashText } from './xxhash64.ts';

/** Plain data. */
export interface Keys {
  /** `[examples]`, below `count`: the same for examples that must not meet. */
  readonly codes: Uint32Array;
  /** `[count]`: examples of each. */
  readonly sizes: Uint32Array;
}

const hash = { high: 0, low: 0 };

/** An id by itself; of several, in order, 53 bits of XXH64. */
export function hashIds(ids: Int32Array): number {
  if (ids.length === 1) return ids[0]!;
  hashText(ids.join(' '), 0, hash);
  return (hash.high >>> 11) * 2 ** 32 + hash.low;
}

/** @param hashes of the examples: integers below 2^53 */
export function keysOf(hashes: Float64Array): Keys {
  const sorted = hashes.slice().sort();
  let count = 0;
  for (let i = 0; i < sorted.length; i++) if (i === 0 || sorted[i] !== sorted[i - 1]) sorted[count++] = sorted[i]!;
  const distinct = sorted.subarray(0, count);
  const sizes = new Uint32Array(count);
  const codes = new Uint32Array(hashes.length);
  for (let i = 0; i < hashes.length; i++) {
    const code = lowerBound(distinct, hashes[i]!);
    codes[i] = code;
    sizes[code]!++;
  }
  return { codes, sizes };
}

/** Of the last batch, which may be smaller. */
const lastSize = (examples: number, batchSize: number): number =>
  examples - batchSize * (Math.ceil(examples / batchSize) - 1);

/** Whether batches without a key twice can be made at all: a key needs a batch for each of its examples. */
function canBe({ codes, sizes }: Keys, batchSize: number): boolean {
  const batches = Math.ceil(codes.length / batchSize);
  let everywhere = 0;
  for (const size of sizes) {
    if (size > batches) return false;
    if (size === batches) everywhere++;
  }
  return everywhere <= lastSize(codes.length, batchSize);
}

/** @throws INVALID_ARGUMENT where such batches cannot be made; the message has the largest batch size with which they can */
export function checkDistinct(keys: Keys, batchSize: number, feature: string): void {
  if (canBe(keys, batchSize)) return;
  const examples = keys.codes.length;
  const most = keys.sizes.reduce((a, b) => Math.max(a, b), 0);
  let fitting = Math.min(batchSize, Math.ceil(examples / Math.max(1, most - 1)));
  while (fitting > 1 && !canBe(keys, fitting)) fitting--;
  const batches = Math.ceil(examples / batchSize);
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `distinct: ${most} of ${examples} examples have the same ids of feature ${JSON.stringify(feature)}, more than go into different batches of the ${batches} that batchSize ${batchSize} makes; the largest batchSize that can be is ${fitting}`,
    { path: 'batchSize', most: fitting },
  );
}

/**
 * A new order, made of `order` in O(examples).
 * @param order numbers below `codes.length`, each once; for which `checkDistinct` does not throw
 */
export function distinctOrder(order: Uint32Array, { codes, sizes }: Keys, batchSize: number): Uint32Array {
  const n = order.length;
  const none = n;
  const out = new Uint32Array(n);
  const left = sizes.slice();
  const buckets = new Buckets(left);
  // Examples of a key wait in a list by place; those before the place that is read next have been passed over.
  const head = new Uint32Array(sizes.length).fill(none);
  const next = new Uint32Array(n).fill(none);
  for (let place = n - 1; place >= 0; place--) {
    const key = codes[order[place]!]!;
    next[place] = head[key]!;
    head[key] = place;
  }
  const batchOf = new Int32Array(sizes.length).fill(-1);
  const waiting = new KeyQueue(sizes.length);
  const batches = Math.ceil(n / batchSize);
  const rest = lastSize(n, batchSize);
  let read = 0;
  let at = 0;
  for (let batch = 0; batch < batches; batch++) {
    const end = Math.min(n, (batch + 1) * batchSize);
    const toGo = batches - batch;
    const take = (key: number): void => {
      const place = head[key]!;
      head[key] = next[place]!;
      out[at++] = order[place]!;
      batchOf[key] = batch;
      buckets.lower(key);
    };
    // Keys that need all batches to go are in this one; of those that need all but one, as many as the last batch has no room for.
    let needed = 0;
    if (toGo > 1) {
      for (let key = buckets.first(toGo); key >= 0; key = buckets.first(toGo)) take(key);
      needed = Math.max(0, buckets.size(toGo - 1) - rest);
    }
    /** False where the places that are left are for keys that are needed. */
    const offer = (key: number): boolean => {
      const isNeeded = left[key] === toGo - 1;
      if (!isNeeded && end - at === needed) return false;
      if (isNeeded && needed > 0) needed--;
      take(key);
      return true;
    };
    let open = true;
    for (let i = waiting.size; i > 0 && at < end && open; i--) {
      const key = waiting.shift();
      if (batchOf[key] !== batch) open = offer(key);
      if (head[key]! < read) waiting.push(key);
    }
    for (; at < end && open && read < n; read++) {
      const key = codes[order[read]!]!;
      if (head[key]! > read) continue; // it was taken before
      if (batchOf[key] !== batch) open = offer(key);
      if (!open) break;
      if (head[key]! <= read) waiting.push(key);
    }
    for (let key = buckets.first(toGo - 1); at < end && key >= 0;) {
      const following = buckets.after(key);
      if (batchOf[key] !== batch) take(key);
      key = following;
    }
  }
  return out;
}

/** Keys, each once, first in first out. */
class KeyQueue {
  readonly #ring: Uint32Array;
  readonly #inside: Uint8Array;
  #first = 0;
  size = 0;

  constructor(keys: number) {
    this.#ring = new Uint32Array(keys);
    this.#inside = new Uint8Array(keys);
  }

  push(key: number): void {
    if (this.#inside[key]) return;
    this.#inside[key] = 1;
    this.#ring[(this.#first + this.size++) % this.#ring.length] = key;
  }

  shift(): number {
    const key = this.#ring[this.#first]!;
    this.#first = (this.#first + 1) % this.#ring.length;
    this.size--;
    this.#inside[key] = 0;
    return key;
  }
}

/** Keys by how many examples they have left: doubly linked lists. */
class Buckets {
  readonly #left: Uint32Array;
  readonly #heads: Int32Array;
  readonly #sizes: Uint32Array;
  readonly #before: Int32Array;
  readonly #after: Int32Array;

  constructor(left: Uint32Array) {
    const most = left.reduce((a, b) => Math.max(a, b), 0);
    this.#left = left;
    this.#heads = new Int32Array(most + 1).fill(-1);
    this.#sizes = new Uint32Array(most + 1);
    this.#before = new Int32Array(left.length);
    this.#after = new Int32Array(left.length);
    for (let key = left.length - 1; key >= 0; key--) this.#insert(key);
  }

  size(left: number): number {
    return this.#sizes[left] ?? 0;
  }

  /** -1 where there is none. */
  first(left: number): number {
    return this.#heads[left] ?? -1;
  }

  after(key: number): number {
    return this.#after[key]!;
  }

  lower(key: number): void {
    const left = this.#left[key]!;
    const [before, after] = [this.#before[key]!, this.#after[key]!];
    if (before >= 0) this.#after[before] = after;
    else this.#heads[left] = after;
    if (after >= 0) this.#before[after] = before;
    this.#sizes[left]!--;
    this.#left[key] = left - 1;
    this.#insert(key);
  }

  #insert(key: number): void {
    const left = this.#left[key]!;
    const head = this.#heads[left]!;
    this.#before[key] = -1;
    this.#after[key] = head;
    if (head >= 0) this.#before[head] = key;
    this.#heads[left] = key;
    this.#sizes[left]!++;
  }
}
