/**
 * Segments of a list cut into pieces, so that one long bag or one frequent row does not keep the whole GPU waiting for one thread. Pieces are summed first, then the
 * pieces' sums: a fixed order, without atomics.
 */

/** Most items that a thread adds up. */
export const pieceItems = 64;

/**
 * Offsets of every round: those of the first are into the list, those of a later one into the sums of the round before; the last has one
 * sum for each segment.
 * @param offsets `[S + 1] i32`: segment i has items `offsets[i] .. offsets[i + 1]`
 */
export function planRounds(offsets: Int32Array): Int32Array[] {
  const rounds: Int32Array[] = [];
  for (;;) {
    const segments = offsets.length - 1;
    const pieces = new Int32Array(segments + 1);
    let longest = 0;
    for (let i = 0; i < segments; i++) {
      const count = offsets[i + 1]! - offsets[i]!;
      longest = Math.max(longest, count);
      pieces[i + 1] = pieces[i]! + Math.ceil(count / pieceItems);
    }
    if (longest <= pieceItems) return [...rounds, offsets];
    const cuts = new Int32Array(pieces[segments]! + 1);
    for (let i = 0; i < segments; i++)
      for (let piece = pieces[i]!, at = offsets[i]!; piece < pieces[i + 1]!; piece++, at += pieceItems)
        cuts[piece] = at;
    cuts[cuts.length - 1] = offsets[segments]!;
    rounds.push(cuts);
    offsets = pieces;
  }
}
