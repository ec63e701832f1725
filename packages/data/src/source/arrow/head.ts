/**
 * Heads of Arrow IPC messages (FlatBuffers). `flechette`, which decodes them, believes their lengths; here they are checked first, so
 * that a broken file is an error rather than a list of billions.
 */
import { Type } from '@uwdata/flechette';

export const kinds = { schema: 1, dictionary: 2, batch: 3 } as const;

export interface Head {
  readonly kind: number;
  /** Of the head itself, what says so included. */
  readonly length: number;
  readonly bodyBytes: number;
  /** Of a record batch, or of a dictionary. */
  readonly rows: number;
}

/**
 * The message at `offset`; null at the end.
 * @param read gives bytes `offset .. offset + length`, or throws
 * @throws Error where it is broken
 */
export function readHead(offset: number, read: (offset: number, length: number) => Buffer): Head | null {
  const start = read(offset, 8);
  // Before version 0.15 of Arrow there was no mark in front of the length.
  const marked = start.readInt32LE(0) === -1;
  const length = start.readInt32LE(marked ? 4 : 0);
  if (length === 0) return null;
  if (length < 0 || length > 1 << 28) throw new Error(`a message at byte ${offset} with a head of ${length} bytes`);
  const prefix = marked ? 8 : 4;
  const bytes = read(offset + prefix, length);
  const message = new FlatTable(bytes, bytes.readInt32LE(0));
  const kindAt = message.field(1);
  const bodyAt = message.field(3);
  const kind = kindAt === 0 ? 0 : bytes.readUInt8(kindAt);
  const bodyBytes = bodyAt === 0 ? 0 : Number(bytes.readBigInt64LE(bodyAt));
  if (bodyBytes < 0) throw new Error(`a message at byte ${offset} of ${bodyBytes} bytes`);
  const header = message.table(2);
  if (!header) throw new Error(`a message at byte ${offset} that says nothing`);
  let rows = 0;
  if (kind === kinds.schema) checkSchema(header);
  else if (kind === kinds.batch) rows = rowsOf(header);
  else if (kind === kinds.dictionary) {
    const data = header.table(1);
    if (!data) throw new Error(`a dictionary at byte ${offset} without values`);
    rows = rowsOf(data);
  } else throw new Error(`a message at byte ${offset} of kind ${kind}`);
  return { kind, length: prefix + length, bodyBytes, rows };
}

/** A message with a dictionary, checked before, as one of a dictionary without values. */
export function withoutValues(message: Buffer): Buffer {
  const marked = message.readInt32LE(0) === -1;
  const prefix = marked ? 8 : 4;
  const copy = Buffer.alloc(prefix + message.readInt32LE(marked ? 4 : 0));
  message.copy(copy);
  const bytes = copy.subarray(prefix);
  const root = new FlatTable(bytes, bytes.readInt32LE(0));
  const batch = root.table(2)!.table(1)!;
  for (const at of [root.field(3), batch.field(0)]) if (at !== 0) bytes.writeBigInt64LE(0n, at);
  // Lengths and counts of nulls; places in the body.
  for (const number of [1, 2]) {
    const { first, count } = batch.vector(number, 16);
    bytes.fill(0, first, first + 16 * count);
  }
  return copy;
}

/** A table of FlatBuffers. Reading outside of the bytes throws. */
class FlatTable {
  readonly bytes: Buffer;
  readonly #at: number;
  readonly #vtable: number;
  readonly #size: number;

  constructor(bytes: Buffer, at: number) {
    this.bytes = bytes;
    this.#at = at;
    this.#vtable = at - bytes.readInt32LE(at);
    this.#size = bytes.readUInt16LE(this.#vtable);
  }

  /** Where a field is, 0 of one that it does not have. */
  field(number: number): number {
    const entry = 4 + 2 * number;
    const offset = entry < this.#size ? this.bytes.readUInt16LE(this.#vtable + entry) : 0;
    return offset === 0 ? 0 : this.#at + offset;
  }

  table(number: number): FlatTable | null {
    const at = this.field(number);
    return at === 0 ? null : new FlatTable(this.bytes, at + this.bytes.readInt32LE(at));
  }

  /** The first byte of each element. */
  vector(number: number, elementBytes: number): { readonly first: number; readonly count: number } {
    const at = this.field(number);
    if (at === 0) return { first: 0, count: 0 };
    const start = at + this.bytes.readInt32LE(at);
    const count = this.bytes.readInt32LE(start);
    if (count < 0 || start + 4 + count * elementBytes > this.bytes.length)
      throw new Error(`a vector of ${count} elements in a head of ${this.bytes.length} bytes`);
    return { first: start + 4, count };
  }

  tables(number: number): FlatTable[] {
    const { first, count } = this.vector(number, 4);
    return Array.from({ length: count }, (_, i) => {
      const at = first + 4 * i;
      return new FlatTable(this.bytes, at + this.bytes.readInt32LE(at));
    });
  }
}

/** Fields of a schema, nested ones included. */
const mostFields = 100_000;

function checkSchema(schema: FlatTable): void {
  const endianAt = schema.field(0);
  if (endianAt !== 0 && schema.bytes.readInt16LE(endianAt) !== 0) throw new Error('big-endian, which cannot be read');
  schema.tables(2);
  let fields = 0;
  const visit = (field: FlatTable, depth: number): void => {
    if (++fields > mostFields || depth > 64) throw new Error('a schema of too many fields');
    field.tables(6);
    const typeAt = field.field(2);
    if (typeAt !== 0 && field.bytes.readUInt8(typeAt) === Type.Union) field.table(3)?.vector(1, 4);
    const children = field.tables(5);
    if (field.table(4) && children.length > 0) throw new Error('a dictionary of nested values, which cannot be read');
    for (const child of children) visit(child, depth + 1);
  };
  for (const field of schema.tables(1)) visit(field, 0);
}

function rowsOf(batch: FlatTable): number {
  const { bytes } = batch;
  const rowsAt = batch.field(0);
  const rows = rowsAt === 0 ? 0 : Number(bytes.readBigInt64LE(rowsAt));
  const nodes = batch.vector(1, 16);
  batch.vector(2, 16);
  batch.vector(4, 8);
  const first = nodes.count === 0 ? rows : Number(bytes.readBigInt64LE(nodes.first));
  if (!(rows >= 0 && rows < 2 ** 32) || first !== rows)
    throw new Error(`a batch of ${rows} rows whose first column has ${first}`);
  return rows;
}
