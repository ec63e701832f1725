import { expect, test } from 'vitest';
import { precompiledNormalizer } from './precompiled.ts';

/** A double array by hand: units of label (8 bits), leaf mark (bit 8), offset (from bit 10) and values (bit 31 set). */
function charsmap(entries: readonly (readonly [key: string, replacement: string])[]): string {
  const units = new Map<number, number>();
  const replacements: number[] = [];
  const encoder = new TextEncoder();
  const values = new Map(
    entries.map(([key, replacement]) => {
      const at = replacements.length;
      replacements.push(...encoder.encode(replacement), 0);
      return [[...encoder.encode(key)].join(), at] as const;
    }),
  );
  const prefixes = new Set<string>(['']);
  for (const [key] of entries)
    [...encoder.encode(key)].forEach((_, i, all) => prefixes.add(all.slice(0, i + 1).join()));
  // Each node's children have a block of 256 units to themselves.
  const blocks = new Map([...prefixes].map((prefix, i) => [prefix, (i + 1) * 256]));
  const place = (prefix: string): number => {
    const bytes = prefix.split(',');
    return prefix === '' ? 0 : blocks.get(bytes.slice(0, -1).join())! ^ Number(bytes.at(-1));
  };
  for (const prefix of prefixes) {
    const [at, block, value] = [place(prefix), blocks.get(prefix)!, values.get(prefix)];
    const label = prefix === '' ? 0 : Number(prefix.split(',').at(-1));
    units.set(at, (((at ^ block) << 10) | (value === undefined ? 0 : 1 << 8) | label) >>> 0);
    if (value !== undefined) units.set(block, (value | 0x80000000) >>> 0);
  }
  const trie = Uint32Array.from({ length: (prefixes.size + 2) * 256 }, (_, i) => units.get(i) ?? 0);
  const size = Uint32Array.of(trie.byteLength);
  return Buffer.concat([Buffer.from(size.buffer), Buffer.from(trie.buffer), Buffer.from(replacements)]).toString(
    'base64',
  );
}

test('keys are replaced, whole graphemes before their characters', () => {
  const normalize = precompiledNormalizer(
    charsmap([
      ['\u2460', '1'],
      ['e\u0301', 'é'],
      ['e', 'E'],
      ['x', ''],
      ['\ud835\udc00', 'A'],
    ]),
  )!;
  expect(normalize('a\u2460b')).toBe('a1b');
  expect(normalize('axb')).toBe('ab');
  expect(normalize('\ud835\udc00\ud835\udc00c')).toBe('AAc');
  expect(normalize('')).toBe('');
  // The shortest key wins, and what it leaves of a grapheme is dropped.
  expect(normalize('e\u0301f')).toBe('Ef');
  // Of six bytes and more: character by character.
  expect(normalize('e\u0301\u0302\u0303')).toBe('E\u0301\u0302\u0303');
});

test('what is no charsmap', () => {
  for (const bytes of [[], [1, 0, 0, 0, 0], [0, 0, 0, 0], [8, 0, 0, 0, 1, 2, 3, 4]]) {
    expect(precompiledNormalizer(Buffer.from(bytes).toString('base64'))).toBeNull();
  }
  // Offsets beyond the trie and the replacements lead nowhere.
  const wild = Buffer.concat([Buffer.from([4, 0, 0, 0]), Buffer.alloc(4, 0xff)]).toString('base64');
  expect(precompiledNormalizer(wild)!('abc')).toBe('abc');
});
