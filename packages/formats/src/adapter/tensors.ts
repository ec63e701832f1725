/** An adapter's numbers in memory, the same for every file format. */
import { FinetableError } from '@finetable/core';
import { show } from '../io.ts';

/** What one table's adapter makes of its base: W plus the delta of its groups, times magnitude / column norm with DoRA. */
export interface AdapterTensors {
  readonly table: string;
  readonly base: AdapterBase;
  /** One or more; the first is named `rest`. Every row is in at most one. Only `rest` may have no members. */
  readonly groups: readonly GroupTensors[];
  /** DoRA's magnitudes, `[D] f32`; null without. */
  readonly magnitude: Float32Array | null;
  /** `[D] f64`: Σ W² of every column, which DoRA's norms begin with; null where it is not known. */
  readonly baseSquares: Float64Array | null;
  /** Vectors longer than this are read as if scaled to it; null: none are. */
  readonly maxNorm: number | null;
  /** `[k, D] f32`: rows `base.rows .. base.rows + k` of the table, which its base does not have; null where it was not grown. */
  readonly grown: Float32Array | null;
}

/**
 * The rows that share factors: row `rows[i]` of the delta is `s * a[i] * b`, with s = alpha / rank, or alpha / sqrt(rank) with
 * `rsLora`. Of kind `dense`, `rank` is D, `b` is null, and the delta is `s * a[i]`.
 */
export interface GroupTensors {
  readonly name: string;
  /** `[2 m] i32`: the rows that the group may hold, as ascending ranges [begin, end) that do not touch; null: all of the table, and there is no other group. */
  readonly members: Int32Array | null;
  /** A of members that are not in `rows`: 0 where null, else `HeUniformRows` of this seed and stream (and V, r). */
  readonly untouched: UntouchedRows | null;
  readonly kind: 'lora' | 'dense';
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora: boolean;
  /** `[k] i32`, ascending, each a member: the rows that the adapter changes. */
  readonly rows: Int32Array;
  /** `[k, rank] f32`. */
  readonly a: Float32Array;
  /** `[rank, D] f32`; null for `dense`. */
  readonly b: Float32Array | null;
}

/** s: alpha / r, or alpha / sqrt(r) with rsLoRA. */
export function loraScale({ alpha, rank, rsLora }: Pick<GroupTensors, 'alpha' | 'rank' | 'rsLora'>): number {
  return alpha / (rsLora ? Math.sqrt(rank) : rank);
}

/** Rows of A that no example touched but that are not 0: he-uniform numbers of a seed and a stream, see `HeUniformRows` of @finetable/core. */
export interface UntouchedRows {
  readonly seed: number;
  readonly stream: string;
  /** V of the table that they were first made for, where it has grown since; default: rows of the table. */
  readonly rows?: number | undefined;
}

/** The table that an adapter belongs to. */
export interface AdapterBase {
  /** V. */
  readonly rows: number;
  /** D. */
  readonly dim: number;
  /** What the rows were stored as, such as `f32`; `unknown` where the file does not say. */
  readonly dtype: string;
  /** Of the base's bytes; null where the file does not say. */
  readonly fingerprint: string | null;
}

/** i32 ids. */
const mostRows = 2 ** 31;

type ErrorCode = 'INVALID_ARGUMENT' | 'INVALID_FILE';

/** Name of the group of rows that no other group has. */
export const restGroup = 'rest';

/** Rows of the table that the adapter makes: those of its base, and those it was grown by. */
export function tableRows({ base, grown }: AdapterTensors): number {
  return base.rows + (grown ? grown.length / base.dim : 0);
}

/**
 * Checks lengths, ranges, order of rows, that groups share no row, and that every number is finite.
 * @param code INVALID_ARGUMENT for what a program passes, INVALID_FILE for what a file held
 */
function checkAdapterTensors(adapter: AdapterTensors, code: ErrorCode, where: string): void {
  const { table, base, groups, magnitude, baseSquares, maxNorm, grown } = adapter;
  const at = `${where}: adapter of table ${show(table)}`;
  const refuse = (message: string): never => {
    throw new FinetableError(code, `${at}: ${message}`, { table });
  };
  checkSize('base rows', base.rows, refuse);
  checkSize('base dim', base.dim, refuse);
  for (const [name, values] of [
    ['magnitude', magnitude],
    ['baseSquares', baseSquares],
  ] as const) {
    if (!values) continue;
    if (values.length !== base.dim) refuse(`${name} has ${values.length} values; needed: one of each dim, ${base.dim}`);
    checkFinite(values, null, at, name, table);
  }
  const negative = baseSquares?.findIndex((value) => value < 0) ?? -1;
  if (negative >= 0) refuse(`baseSquares[${negative}] is ${baseSquares![negative]}; allowed: sums of squares, from 0`);
  if (maxNorm !== null && !(maxNorm > 0 && Number.isFinite(maxNorm)))
    refuse(`maxNorm is ${show(maxNorm)}; allowed: a number above 0`);
  if (grown) {
    if (grown.length === 0 || grown.length % base.dim !== 0)
      refuse(`grown has ${grown.length} values; needed: one row of ${base.dim} dims or more`);
    if (tableRows(adapter) > mostRows)
      refuse(`base and grown rows are ${tableRows(adapter)}; allowed: at most ${mostRows}`);
    checkFinite(grown, base.dim, at, 'grown', table);
  }
  checkGroupNames(groups, refuse);
  for (const group of groups) {
    const { name } = group;
    const atGroup = name === restGroup ? at : `${at}: group ${show(name)}`;
    checkGroup(group, adapter, atGroup, (message) => {
      throw new FinetableError(code, `${atGroup}: ${message}`, { table, group: name });
    });
  }
  checkApart(groups, refuse);
}

type Refuse = (message: string) => never;

function checkSize(name: string, value: number, refuse: Refuse): void {
  if (!Number.isInteger(value) || value < 1 || value > mostRows)
    refuse(`${name} is ${show(value)}; allowed: an integer from 1 to ${mostRows}`);
}

/** @param columns null for a vector */
function checkFinite(
  values: Float32Array | Float64Array,
  columns: number | null,
  at: string,
  name: string,
  table: string,
): void {
  const bad = values.findIndex((value: number) => !Number.isFinite(value));
  if (bad < 0) return;
  const place = columns === null ? `[${bad}]` : `[${Math.floor(bad / columns)}, ${bad % columns}]`;
  const message = `${at}: ${name}${place} is ${values[bad]}; the training that made it diverged`;
  throw new FinetableError('NON_FINITE', message, { table });
}

function checkGroupNames(groups: readonly GroupTensors[], refuse: Refuse): void {
  const first = groups[0]?.name;
  if (first !== restGroup)
    refuse(
      `${first === undefined ? 'has no groups' : `its first group is ${show(first)}`}; the first is "${restGroup}"`,
    );
  const names = new Set<string>();
  for (const { name } of groups) {
    if (name === '') refuse('a group has no name; allowed: any other text');
    if (names.has(name)) refuse(`two groups are named ${show(name)}; allowed: one`);
    names.add(name);
  }
}

function checkGroup(group: GroupTensors, adapter: AdapterTensors, at: string, refuse: Refuse): void {
  const { name, members, untouched, kind, rank, alpha, rows, a, b } = group;
  const { base, table } = adapter;
  checkSize('rank', rank, refuse);
  if (!Number.isFinite(alpha)) refuse(`alpha is ${alpha}; allowed: a finite number`);
  if (kind === 'dense' && rank !== base.dim)
    refuse(`is dense of rank ${rank}; a dense delta has the rank of its base's dim, ${base.dim}`);
  if (rows.length * rank !== a.length)
    refuse(`A has ${a.length} values; ${rows.length} rows of rank ${rank} have ${rows.length * rank}`);
  if (b === null ? kind === 'lora' : kind === 'dense')
    refuse(kind === 'lora' ? 'B is missing' : 'is dense and yet has a B');
  if (b && b.length !== rank * base.dim)
    refuse(`B has ${b.length} values; rank ${rank} by ${base.dim} dims has ${rank * base.dim}`);
  if (untouched) {
    if (kind === 'dense') refuse('is dense and yet has untouched rows other than 0; those go with an A and a B');
    if (!Number.isSafeInteger(untouched.seed) || untouched.seed < 0)
      refuse(`the seed of its untouched rows is ${show(untouched.seed)}; allowed: an integer from 0 to 2^53 - 1`);
    if (untouched.rows !== undefined) checkSize('the number of its untouched rows', untouched.rows, refuse);
  }

  const most = tableRows(adapter);
  if (members) checkMembers(members, name, most, refuse);
  else if (adapter.groups.length > 1) refuse('has no members; where there are several groups, each names its own');
  let range = 0;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!;
    if (row < 0 || row >= most) refuse(`rows[${i}] is ${row}; allowed: 0 to ${most - 1}`);
    if (i > 0 && row <= rows[i - 1]!) refuse(`rows[${i}] is ${row} after ${rows[i - 1]}; rows must ascend, each once`);
    if (!members) continue;
    while (range < members.length && members[range + 1]! <= row) range += 2;
    if (range === members.length || row < members[range]!)
      refuse(`rows[${i}] is ${row}, which is no member of the group`);
  }
  checkFinite(a, rank, at, 'A', table);
  if (b) checkFinite(b, base.dim, at, 'B', table);
}

function checkMembers(members: Int32Array, name: string, most: number, refuse: Refuse): void {
  if (members.length % 2 !== 0) refuse(`members has ${members.length} values; allowed: pairs of begin and end`);
  if (members.length === 0 && name !== restGroup) refuse('has no members; a group is of one row at least');
  for (let i = 0; i < members.length; i += 2) {
    const [begin, end] = [members[i]!, members[i + 1]!];
    const found = `members[${i / 2}] is [${begin}, ${end})`;
    if (begin < 0 || begin >= end || end > most)
      refuse(`${found}; allowed: rows from 0 to ${most - 1}, begin below end`);
    if (i > 0 && begin <= members[i - 1]!)
      refuse(`${found} after one that ends at ${members[i - 1]}; ranges must ascend and not touch`);
  }
}

/** Refuses a row that is in two groups; the groups' ranges are walked side by side. */
function checkApart(groups: readonly GroupTensors[], refuse: Refuse): void {
  const next = groups.map(() => 0);
  const begin = (g: number): number => groups[g]!.members?.[next[g]!] ?? Infinity;
  let before = 0;
  let end = 0;
  for (;;) {
    let first = 0;
    for (let g = 1; g < groups.length; g++) if (begin(g) < begin(first)) first = g;
    if (begin(first) === Infinity) return;
    if (begin(first) < end) {
      const names = [before, first].map((g) => show(groups[g]!.name)).join(' and ');
      refuse(`row ${begin(first)} is in the groups ${names}; allowed: at most one`);
    }
    end = groups[first]!.members![next[first]! + 1]!;
    before = first;
    next[first]! += 2;
  }
}

/** Checks every adapter of one file, and that no table comes twice. */
export function checkAdapters(adapters: readonly AdapterTensors[], code: ErrorCode, where: string): void {
  if (adapters.length === 0)
    throw new FinetableError(code, `${where}: there is no adapter; at least one table is needed`);
  const tables = new Set<string>();
  for (const adapter of adapters) {
    if (tables.has(adapter.table)) {
      throw new FinetableError(code, `${where}: two adapters of table ${show(adapter.table)}; allowed: one`, {
        table: adapter.table,
      });
    }
    tables.add(adapter.table);
    checkAdapterTensors(adapter, code, where);
  }
}
