/** Decompression of blocks inside Parquet and Arrow files: by Node where it can, since that is native. */
import * as zlib from 'node:zlib';
import { compressors as portable } from 'hyparquet-compressors';

type Decompress = (bytes: Uint8Array, size: number) => Uint8Array;

/** Of Node from 22.15 on. */
const { zstdDecompressSync } = zlib as { zstdDecompressSync?: (bytes: Uint8Array) => Uint8Array };

export const decompressZstd: Decompress = zstdDecompressSync
  ? (bytes) => zstdDecompressSync(bytes)
  : (portable.ZSTD as Decompress);

export const parquetCompressors = {
  ...portable,
  GZIP: (bytes: Uint8Array) => zlib.gunzipSync(bytes),
  BROTLI: (bytes: Uint8Array) => zlib.brotliDecompressSync(bytes),
  ZSTD: decompressZstd,
};

/** The frame format of LZ4: its magic number, a descriptor, blocks. Checksums are passed over. @throws Error */
export function decompressLz4Frame(bytes: Uint8Array, size: number): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint8(4);
  if (view.getUint32(0, true) !== 0x184d2204 || flags >> 6 !== 1) throw new Error('not an LZ4 frame');
  if ((flags & 1) !== 0) throw new Error('an LZ4 frame with a dictionary');
  const out = new Uint8Array(size);
  let written = 0;
  const descriptor = (flags & 8) !== 0 ? 11 : 3;
  for (let at = 4 + descriptor; ;) {
    const word = view.getUint32(at, true);
    const length = word & 0x7fffffff;
    at += 4;
    if (length === 0) break;
    if (at + length > bytes.length) throw new Error('an LZ4 frame that ends within a block');
    const block = bytes.subarray(at, at + length);
    if (word === length) written = decompressLz4Block(block, out, written);
    else {
      out.set(block, written);
      written += length;
    }
    at += length + ((flags & 16) !== 0 ? 4 : 0);
  }
  if (written !== size) throw new Error(`an LZ4 frame of ${written} bytes instead of ${size}`);
  return out;
}

/** Literals and matches in turn; a match copies what is already in `out`. @returns where it ends in `out` @throws Error */
function decompressLz4Block(block: Uint8Array, out: Uint8Array, written: number): number {
  let at = 0;
  /** A length of 15 goes on in the bytes behind it, up to the first below 255. */
  const lengthFrom = (nibble: number): number => {
    let length = nibble;
    if (nibble === 15) {
      let more: number;
      do {
        if (at >= block.length) throw new Error('an LZ4 block that ends within a length');
        more = block[at++]!;
        length += more;
      } while (more === 255);
    }
    return length;
  };
  while (at < block.length) {
    const token = block[at++]!;
    const literals = lengthFrom(token >> 4);
    if (at + literals > block.length || written + literals > out.length)
      throw new Error('an LZ4 block that is too long');
    out.set(block.subarray(at, at + literals), written);
    written += literals;
    at += literals;
    if (at === block.length) return written;
    const distance = block[at]! | (block[at + 1]! << 8);
    at += 2;
    const length = lengthFrom(token & 15) + 4;
    if (distance === 0 || distance > written || written + length > out.length)
      throw new Error('an LZ4 block with a match outside of it');
    if (distance >= length) out.copyWithin(written, written - distance, written - distance + length);
    else for (let i = 0; i < length; i++) out[written + i] = out[written - distance + i]!;
    written += length;
  }
  return written;
}
