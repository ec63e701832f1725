/**
 * SentencePiece's precompiled normalisation, a `Precompiled` normaliser's `precompiled_charsmap`: the size of a double-array
 * trie in bytes (u32), the trie, then the replacements, each ended by a NUL. The trie's values are offsets among these.
 *
 * As the Rust library (spm_precompiled 0.1) applies it: to each grapheme of less than six bytes as a whole, else to each of its
 * characters; what a match leaves over of them is dropped. The double array is that of Darts-clone (S. Yata).
 */

const graphemes = new Intl.Segmenter('und', { granularity: 'grapheme' });
/** In UTF-8. */
const longestWhole = 6;

/**
 * @param charsmap base64
 * @returns null where it is no charsmap
 */
export function precompiledNormalizer(charsmap: string): ((text: string) => string) | null {
  const bytes = Buffer.from(charsmap, 'base64');
  const trieBytes = bytes.length < 4 ? NaN : bytes.readUInt32LE(0);
  if (!(trieBytes % 4 === 0 && trieBytes > 0 && 4 + trieBytes <= bytes.length)) return null;
  const trie = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => bytes.readUInt32LE(4 + 4 * i));
  const replacements = bytes.subarray(4 + trieBytes);
  const encoder = new TextEncoder();

  /** The replacement of the shortest key that `piece` begins with; null where there is none. */
  const find = (piece: Uint8Array): string | null => {
    let node = offsetOf(trie[0]!);
    for (const byte of piece) {
      if (byte === 0) return null;
      node ^= byte;
      const unit = trie[node];
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return null;
      node ^= offsetOf(unit);
      if ((unit >>> 8) & 1) {
        const begin = (trie[node] ?? 0) & 0x7fffffff;
        const end = replacements.indexOf(0, begin);
        return replacements.toString('utf8', begin, end < 0 ? replacements.length : end);
      }
    }
    return null;
  };
  const known = new Map<string, string>();
  const normalizeGrapheme = (grapheme: string): string => {
    const piece = encoder.encode(grapheme);
    const whole = piece.length < longestWhole ? find(piece) : null;
    if (whole !== null) return whole;
    return Array.from(grapheme, (character) => find(encoder.encode(character)) ?? character).join('');
  };
  return (text) => {
    let out = '';
    for (const { segment } of graphemes.segment(text)) {
      let found = known.get(segment);
      if (found === undefined) {
        found = normalizeGrapheme(segment);
        if (known.size === keptGraphemes) known.clear();
        known.set(segment, found);
      }
      out += found;
    }
    return out;
  };
}

/** Some MB at most. */
const keptGraphemes = 2 ** 15;

/** Of a unit, to its children. */
function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & (1 << 9)) >>> 6);
}
