/** Lookups and gradients of one batch, against sums as they are defined, in f64. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, RandomStream, range, type LookupPlan, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { openTable, type DeviceDelta, type DeviceGradients, type ShardedTable } from '@finetable/placement';
import { normals, writeTable } from '@finetable/placement/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { webgpuDevice } from './device.ts';
import { pieceItems } from './segments.ts';
import { onAdapter } from './testing/adapter.ts';

const V = 50;
const dims = [3, 64];

let folder: string;
const bases = new Map(dims.map((dim) => [dim, normals(V, dim)]));
const path = (dim: number): string => join(folder, `${dim}.safetensors`);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webgpu-lookup-'));
  for (const [dim, values] of bases) await writeTable(path(dim), values);
});
afterAll(() => rm(folder, { recursive: true }));

interface Case {
  readonly dim: number;
  /** Buffers of eight rows, so that a shader sees only some of them. */
  readonly cut: boolean;
  readonly lengths: readonly number[];
  readonly weighted: boolean;
  /** Whether the deltas have weights of their own. */
  readonly other: boolean;
  readonly deltas: readonly { readonly rank: number; readonly dense: boolean; readonly members: boolean }[];
  readonly seed: number;
}

const cases: fc.Arbitrary<Case> = fc.record({
  dim: fc.constantFrom(...dims),
  cut: fc.boolean(),
  lengths: fc.array(
    fc.oneof(fc.nat(3), fc.nat(40), fc.constant(pieceItems), fc.constant(pieceItems + 1), fc.nat(300)),
    {
      maxLength: 9,
    },
  ),
  weighted: fc.boolean(),
  other: fc.boolean(),
  deltas: fc.array(fc.record({ rank: fc.integer({ min: 1, max: 9 }), dense: fc.boolean(), members: fc.boolean() }), {
    maxLength: 3,
  }),
  seed: fc.nat(1000),
});

/** Sums, and those of absolute values: what rounding is relative to. */
class Sums {
  readonly values: Float64Array;
  readonly sizes: Float64Array;
  constructor({ rows, cols }: Pick<Matrix, 'rows' | 'cols'>) {
    this.values = new Float64Array(rows * cols);
    this.sizes = new Float64Array(rows * cols);
  }
  add(at: number, term: number): void {
    this.values[at]! += term;
    this.sizes[at]! += Math.abs(term);
  }
  /** Sums of f32 in any order, of products that are rounded too. */
  expectNear({ data }: Matrix): void {
    expect(data.length).toBe(this.values.length);
    for (let i = 0; i < data.length; i++)
      if (!(Math.abs(data[i]! - this.values[i]!) <= 1e-5 * this.sizes[i]! + 1e-30))
        expect.fail(`value ${i} is ${data[i]}, not ${this.values[i]}`);
  }
}

interface Batch {
  readonly plan: LookupPlan;
  readonly weights: Float32Array | null;
  readonly deltas: readonly DeviceDelta[];
  readonly gradient: Matrix;
}

function batchOf({ dim, lengths, weighted, other, deltas, seed }: Case): Batch {
  const random = new RandomStream(seed, 'batch');
  let at = 0;
  const bags = lengths.map((length) => Array.from({ length }, () => random.below(at++, V)));
  const weights = weighted ? bags.map((bag) => bag.map(() => 0.25 + random.below(at++, 8) / 4)) : undefined;
  const plan = makePlan(jagged(bags, weights), V, { pooling: seed % 2 ? 'mean' : 'sum' });
  const drawn = (rows: number, cols: number, name: string): Matrix => {
    const out = matrix(rows, cols);
    new RandomStream(seed, name).fillNormal(out.data);
    return out;
  };
  return {
    plan,
    weights: other ? Float32Array.from(plan.placeRows, () => random.below(at++, 3)) : null,
    deltas: deltas.map(({ rank, dense, members }, d) => {
      const own = range(plan.uniqueRows.length).filter((u) => !members || u % 3 === d);
      return {
        members: members ? own : null,
        factors: drawn(own.length, dense ? dim : rank, `a${d}`),
        b: dense ? null : drawn(rank, dim, `b${d}`),
        scale: 1 + d / 2,
      };
    }),
    gradient: drawn(bags.length, dim, 'gradient'),
  };
}

interface Answer {
  readonly e: Matrix;
  readonly gradients: readonly DeviceGradients[];
}

async function compute(table: ShardedTable, { plan, weights, deltas, gradient }: Batch): Promise<Answer> {
  const lookup = table.begin(plan);
  // What is done before may leave anything in buffers that are used again.
  lookup.adapt([]).dispose();
  const made = lookup.adapt(deltas, weights);
  const e = matrix(made.rows, made.cols, new Float32Array(made.rows * made.cols).fill(NaN));
  await made.read(e);
  made.dispose();
  const gradients = deltas.map(({ factors, b }) => ({
    rows: matrix(factors.rows, factors.cols, new Float32Array(factors.data.length).fill(NaN)),
    b: b && matrix(b.rows, b.cols, new Float32Array(b.data.length).fill(NaN)),
  }));
  await lookup.gradients(gradient, gradients);
  lookup.dispose();
  return { e, gradients };
}

function check({ dim }: Case, { plan, weights, deltas, gradient: g }: Batch, { e, gradients }: Answer): void {
  const base = bases.get(dim)!.data;
  const sums = new Sums(e);
  const eachPlace = (visit: (bag: number, place: number) => void): void => {
    for (let bag = 0; bag < e.rows; bag++)
      for (let place = plan.offsets[bag]!; place < plan.offsets[bag + 1]!; place++) visit(bag, place);
  };
  const own = plan.weights;
  const others = weights ?? own;
  eachPlace((bag, place) => {
    for (let j = 0; j < dim; j++)
      sums.add(bag * dim + j, (own ? own[place]! : 1) * base[plan.placeRows[place]! * dim + j]!);
  });
  deltas.forEach(({ members, factors: { data: a, cols: rank }, b, scale }, d) => {
    const out = gradients[d]!;
    const [rows, ofB] = [new Sums(out.rows!), new Sums(out.b ?? { rows: 0, cols: 0 })];
    const which = new Map([...(members ?? range(plan.uniqueRows.length))].map((unique, i) => [unique, i]));
    eachPlace((bag, place) => {
      const row = which.get(plan.placeUnique[place]!);
      if (row === undefined) return;
      const w = scale * (others ? others[place]! : 1);
      for (let k = 0; k < rank; k++) {
        for (let j = 0; j < dim; j++) {
          if (!b && j !== k) continue;
          const x = b ? b.data[k * dim + j]! : 1;
          sums.add(bag * dim + j, w * a[row * rank + k]! * x);
          rows.add(row * rank + k, w * g.data[bag * dim + j]! * x);
          if (b) ofB.add(k * dim + j, w * a[row * rank + k]! * g.data[bag * dim + j]!);
        }
      }
    });
    rows.expectNear(out.rows!);
    if (out.b) ofB.expectNear(out.b);
  });
  sums.expectNear(e);
}

onAdapter(() => {
  test('sums as they are defined, and the same bytes every time', async () => {
    const device = await webgpuDevice({ software: true });
    const small = new Map<number, ShardedTable>();
    const whole = new Map<number, ShardedTable>();
    for (const dim of dims) {
      const bufferBytes = 8 * 16 * Math.ceil(dim / 4);
      const cut = await webgpuDevice({ software: true, bufferBytes });
      small.set(dim, await openTable(path(dim), { placement: cut }));
      whole.set(dim, await openTable(path(dim), { placement: device }));
    }
    const held = device.heldBytes;
    const one = async (x: Case): Promise<void> => {
      const table = (x.cut ? small : whole).get(x.dim)!;
      const batch = batchOf(x);
      const answer = await compute(table, batch);
      check(x, batch, answer);
      expect(await compute(table, batch)).toEqual(answer);
      expect(device.heldBytes).toBe(held);
    };
    // More pieces than one round of sums has items.
    const long = { lengths: [pieceItems ** 2 + 1, 0, 5], weighted: true, other: false, seed: 1 };
    for (const cut of [false, true])
      await one({ ...long, dim: 3, cut, deltas: [{ rank: 4, dense: false, members: false }] });
    await fc.assert(fc.asyncProperty(cases, one), { numRuns: 60 });
    for (const table of [...small.values(), ...whole.values()]) table.close();
  });

  test('more bags than the gradient of B has pieces', async () => {
    const device = await webgpuDevice({ software: true });
    const table = await openTable(path(3), { placement: device });
    const x = { dim: 3, cut: false, lengths: Array.from({ length: 16_500 }, (_, b) => b % 3), weighted: false, other: true, seed: 2, deltas: [{ rank: 2, dense: false, members: false }] }; // prettier-ignore
    const batch = batchOf(x);
    check(x, batch, await compute(table, batch));
    table.close();
  });

  test('base rows as the portable kernels sum them', async () => {
    const device = await webgpuDevice({ software: true });
    const there = await openTable(path(64), { placement: device });
    const here = await openTable(path(64), { kernels: loadKernels({ kind: 'portable' }) });
    const { plan } = batchOf({ dim: 64, cut: false, lengths: [0, 1, 20, 7], weighted: true, other: false, deltas: [], seed: 3 }); // prettier-ignore
    const [ours, theirs] = [matrix(4, 64), matrix(4, 64)];
    here.lookup(plan, theirs);
    const lookup = there.begin(plan);
    const e = lookup.adapt([]);
    await e.read(ours);
    ours.data.forEach((x, i) => expect(x).toBeCloseTo(theirs.data[i]!, 5));
    for (const open of [e, lookup]) open.dispose();
    for (const table of [there, here]) table.close();
  });
});
