/**
 * Event files as TensorBoard reads them, scalars alone: records of TFRecord (length, data, and masked CRC-32C of each), each an `Event` in
 * protobuf's wire format.
 *
 *     Event       wall_time = 1 (double), step = 2 (int64), file_version = 3 (string), summary = 5, session_log = 7
 *     Summary     value = 1, repeated: tag = 1 (string), simple_value = 2 (float)
 *     SessionLog  status = 1: START = 1, with which a reader forgets what it has of this step and later ones
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ioError } from '@finetable/formats';
import { AppendedFile } from './appended-file.ts';

export class EventFile {
  readonly #file: AppendedFile;

  /** A file of this process's own in `folder`, which is made. @param step that a resumed run goes on after; else 0 @throws IO */
  constructor(folder: string, step: number) {
    try {
      mkdirSync(folder, { recursive: true });
    } catch (error) {
      throw ioError(error, 'writing', folder);
    }
    const seconds = String(Math.floor(Date.now() / 1000)).padStart(10, '0');
    this.#file = new AppendedFile(join(folder, `events.out.tfevents.${seconds}.finetable.${process.pid}`));
    this.#write(0, bytesField(3, Buffer.from('brain.Event:2')));
    if (step > 0) this.#write(step + 1, bytesField(7, varintField(1, 1)));
  }

  /** @throws IO */
  scalars(step: number, values: Readonly<Record<string, number>>): void {
    const summary = Object.entries(values).map(([tag, value]) =>
      bytesField(1, Buffer.concat([bytesField(1, Buffer.from(tag)), floatField(2, value)])),
    );
    this.#write(step, bytesField(5, Buffer.concat(summary)));
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #write(step: number, what: Uint8Array): void {
    this.#file.write(record(Buffer.concat([doubleField(1, Date.now() / 1000), varintField(2, step), what])));
  }
}

function record(data: Uint8Array): Uint8Array {
  const out = Buffer.alloc(16 + data.length);
  out.writeBigUInt64LE(BigInt(data.length));
  out.writeUInt32LE(maskedCrc(out.subarray(0, 8)), 8);
  out.set(data, 12);
  out.writeUInt32LE(maskedCrc(data), 12 + data.length);
  return out;
}

const wire = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** Field numbers of ours fit one byte. */
const tag = (field: number, type: keyof typeof wire): Buffer => Buffer.of((field << 3) | wire[type]);

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return Buffer.of(...bytes, value);
}

const varintField = (field: number, value: number): Buffer => Buffer.concat([tag(field, 'varint'), varint(value)]);

const bytesField = (field: number, value: Uint8Array): Buffer =>
  Buffer.concat([tag(field, 'bytes'), varint(value.length), value]);

function doubleField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([tag(field, 'fixed64'), bytes]);
}

function floatField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([tag(field, 'fixed32'), bytes]);
}

/** Of CRC-32C (Castagnoli), the reversed polynomial 0x82f63b78, by byte. */
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** As TFRecord has it: rotated and shifted, so that a record of records is no record. */
export function maskedCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ crcTable[(crc ^ byte) & 255]!;
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
