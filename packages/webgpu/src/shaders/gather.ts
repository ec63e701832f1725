/** Stored rows as they are, for tables of which a part is elsewhere: `[n, rowWords]` words. */
import { declare, main } from './head.ts';

/** Bindings: rows of the shard, the shard, words. */
export function gather(rowWords: number): string {
  return `${declare([
    { name: 'rows', type: 'u32' },
    { name: 'shard', type: 'u32' },
    { name: 'words', type: 'u32', written: true },
  ])}
${main(`  if i >= arrayLength(&words) { return; }
  words[i] = shard[rows[i / ${rowWords}u] * ${rowWords}u + i % ${rowWords}u];`)}`;
}
