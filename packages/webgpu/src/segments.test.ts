import fc from 'fast-check';
import { expect, test } from 'vitest';
import { pieceItems, planRounds } from './segments.ts';

test('rounds of pieces that are short enough, and that together have every item of a segment in order', () => {
  const length = fc.oneof(fc.nat(3), fc.constant(pieceItems), fc.nat(2 * pieceItems ** 2));
  fc.assert(
    fc.property(fc.array(length, { maxLength: 8 }), (lengths) => {
      const offsets = Int32Array.of(0, ...lengths.map((_, i) => lengths.slice(0, i + 1).reduce((a, b) => a + b, 0)));
      const rounds = planRounds(offsets);
      // What every sum of a round has, as items of the list.
      let items: number[][] = Array.from({ length: offsets.at(-1)! }, (_, i) => [i]);
      for (const cuts of rounds) {
        const lengths = [...cuts.subarray(1)].map((end, i) => end - cuts[i]!);
        expect(Math.max(0, ...lengths)).toBeLessThanOrEqual(pieceItems);
        items = lengths.map((count, i) => items.slice(cuts[i], cuts[i]! + count).flat());
      }
      expect(items).toEqual(lengths.map((count, i) => Array.from({ length: count }, (_, k) => offsets[i]! + k)));
      if (lengths.every((count) => count <= pieceItems)) expect(rounds).toEqual([offsets]);
    }),
    { numRuns: 30 },
  );
});
