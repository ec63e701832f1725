/**
 * Interactions by user and in order of time, in memory that threads share: 8 bytes an interaction, 4 a user, and the names of users
 * and items once. Interaction `p`, its place in this order, is an example: its item is the target, those before it the history.
 */
import { FinetableError } from '@finetable/core';
import { isSelected, selectionOf, type Selection } from '../selection.ts';
import type { Records } from '../source/source.ts';
import type { HistoriesSpec, LeaveOutSplit } from '../spec.ts';
import type { Interactions } from './collect.ts';
import { shareTexts, TextCodes, type SharedTexts } from './names.ts';

export interface Histories {
  readonly spec: HistoriesSpec;
  /** `[n]`: the row of the source. */
  readonly rows: Uint32Array;
  /** `[n]`, into `itemKeys`. */
  readonly items: Uint32Array;
  /** `[users + 1]`: the first interaction of each user, and the end. */
  readonly starts: Uint32Array;
  readonly itemKeys: SharedTexts;
  /** Null where each row is a user's whole list. */
  readonly userKeys: SharedTexts | null;
  readonly values: Records['values'];
}

/** Users that are sorted without giving way to other work. */
const usersAtOnce = 1 << 15;

/**
 * Interactions of the same time stay in the order of the source.
 * @param parts in the order of the source
 * @param pause lets other work in, and throws where all is to end
 * @throws INVALID_DATA where some times are dates and some numbers, or there are no interactions; DOES_NOT_FIT
 */
export async function groupInteractions(
  spec: HistoriesSpec,
  parts: readonly Interactions[],
  name: string,
  pause: () => Promise<void>,
): Promise<Histories> {
  const n = parts.reduce((sum, { rows }) => sum + rows.length, 0);
  if (n === 0) throw new FinetableError('INVALID_DATA', `${name}: no interactions`, { file: name });
  if (n >= 2 ** 32) throw new FinetableError('DOES_NOT_FIT', `${name}: ${n} interactions; allowed: below 2^32`);
  if (new Set(parts.flatMap(({ timeKind }) => timeKind ?? [])).size > 1)
    throw new FinetableError('INVALID_DATA', `${name}: some times are dates, some numbers; allowed: one of the two`);
  const [itemCodes, userCodes] = [new TextCodes(`${name}, items`), new TextCodes(`${name}, users`)];
  const all = { rows: shared(n), items: shared(n) };
  const users = new Uint32Array(n);
  const times = spec.list === undefined ? new Float64Array(n) : null;
  let at = 0;
  let lists = 0;
  for (const part of parts) {
    const itemOf = part.itemKeys.map((key) => itemCodes.code(key));
    const userOf = part.userKeys.map((key) => userCodes.code(key));
    for (let i = 0; i < part.rows.length; i++, at++) {
      all.rows[at] = part.rows[i]!;
      all.items[at] = itemOf[part.items[i]!]!;
      if (part.users) users[at] = userOf[part.users[i]!]!;
      else users[at] = at > 0 && all.rows[at - 1] === all.rows[at] ? lists - 1 : lists++;
    }
    if (part.times) times?.set(part.times, at - part.rows.length);
    await pause();
  }
  const starts = startsOf(users, times ? userCodes.size : lists);
  const sorted = times ? await sortByUser(all, users, starts, times, pause) : all;
  return {
    spec,
    ...sorted,
    starts,
    itemKeys: shareTexts(itemCodes.texts(), itemCodes.size),
    userKeys: times ? shareTexts(userCodes.texts(), userCodes.size) : null,
    values: parts.find(({ rows }) => rows.length > 0)!.values,
  };
}

const shared = (length: number): Uint32Array => new Uint32Array(new SharedArrayBuffer(4 * length));

function startsOf(users: Uint32Array, count: number): Uint32Array {
  const starts = shared(count + 1);
  for (const user of users) starts[user + 1]!++;
  for (let user = 0; user < count; user++) starts[user + 1]! += starts[user]!;
  return starts;
}

async function sortByUser(
  { rows, items }: Pick<Histories, 'rows' | 'items'>,
  users: Uint32Array,
  starts: Uint32Array,
  times: Float64Array,
  pause: () => Promise<void>,
): Promise<Pick<Histories, 'rows' | 'items'>> {
  const order = new Uint32Array(rows.length);
  const next = starts.slice();
  for (let i = 0; i < users.length; i++) order[next[users[i]!]!++] = i;
  for (let user = 0; user + 1 < starts.length; user++) {
    const own = order.subarray(starts[user], starts[user + 1]);
    let ordered = true;
    for (let i = 1; i < own.length && ordered; i++) ordered = times[own[i - 1]!]! <= times[own[i]!]!;
    if (!ordered) own.sort((a, b) => times[a]! - times[b]! || a - b);
    if ((user + 1) % usersAtOnce === 0) await pause();
  }
  const sorted = { rows: shared(order.length), items: shared(order.length) };
  for (let place = 0; place < order.length; place++) {
    sorted.rows[place] = rows[order[place]!]!;
    sorted.items[place] = items[order[place]!]!;
  }
  return sorted;
}

/** The interactions that are targets: with history enough, their row in the split, and of the part that is not left out. */
export function targetsOf(
  { rows, starts, spec: { minimum = 1 } }: Histories,
  rowSplit: Selection | null,
  leaveOut: LeaveOutSplit | null,
): Selection {
  const excluded = function* (): Iterable<number> {
    for (let user = 0; user + 1 < starts.length; user++) {
      const [begin, end] = [starts[user]!, starts[user + 1]!];
      const [from, to] = leaveOut ? leftOf(leaveOut, begin, end) : [begin, end];
      for (let place = begin; place < end; place++) {
        const inside = place >= Math.max(from, begin + minimum) && place < to;
        if (!inside || (rowSplit && !isSelected(rowSplit, rows[place]!))) yield place;
      }
    }
  };
  return selectionOf(rows.length, excluded());
}

/** Of one user's interactions, those of the part. */
function leftOf({ leaveOut, count = 1 }: LeaveOutSplit, begin: number, end: number): readonly [number, number] {
  if (leaveOut === 'test') return [end - count, end];
  if (leaveOut === 'validation') return [end - 2 * count, end - count];
  return [begin, end - 2 * count];
}
