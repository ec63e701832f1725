/** Read back by a reader of its own, made from the formats' descriptions: TFRecord, CRC-32C (RFC 3720), protobuf's wire format. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EventFile, maskedCrc } from './tensorboard.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'events-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** Bit by bit. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    for (let bit = 0; bit < 8; bit++) {
      const carry = (crc ^ (byte >> bit)) & 1;
      crc = (crc >>> 1) ^ (carry ? 0x82f63b78 : 0);
    }
  }
  return (crc ^ 0xffffffff) >>> 0;
}

function unmask(masked: number): number {
  const rotated = (masked - 0xa282ead8) >>> 0;
  return ((rotated >>> 17) | (rotated << 15)) >>> 0;
}

type Field = [number, number | Buffer];

function fieldsOf(message: Buffer): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = message[at++]!;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  const take = (length: number): Buffer => message.subarray(at, (at += length));
  while (at < message.length) {
    const key = varint();
    const type = key & 7;
    const value =
      type === 0 ? varint() : type === 1 ? take(8).readDoubleLE() : type === 2 ? take(varint()) : take(4).readFloatLE();
    expect([0, 1, 2, 5]).toContain(type);
    fields.push([key >> 3, value]);
  }
  expect(at).toBe(message.length);
  return fields;
}

interface Event {
  readonly step: number;
  readonly wallTime: number;
  readonly version?: string;
  readonly scalars?: Record<string, number>;
  readonly session?: Field[];
}

function eventsOf(bytes: Buffer): Event[] {
  const events: Event[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(unmask(bytes.readUInt32LE(at + 8))).toBe(crc32c(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(unmask(bytes.readUInt32LE(at + 12 + length))).toBe(crc32c(data));
    const fields = new Map(fieldsOf(data));
    const summary = fields.get(5) as Buffer | undefined;
    events.push({
      wallTime: fields.get(1) as number,
      step: fields.get(2) as number,
      ...(fields.has(3) ? { version: String(fields.get(3)) } : {}),
      ...(fields.has(7) ? { session: fieldsOf(fields.get(7) as Buffer) } : {}),
      ...(summary
        ? {
            scalars: Object.fromEntries(
              fieldsOf(summary).map(([, value]) => {
                const scalar = new Map(fieldsOf(value as Buffer));
                return [String(scalar.get(1)), scalar.get(2) as number];
              }),
            ),
          }
        : {}),
    });
    at += 16 + length;
  }
  return events;
}

test('CRC-32C of the check value, masked', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  expect(unmask(maskedCrc(Buffer.from('123456789')))).toBe(0xe3069283);
});

test('scalars come back with their steps, in a file that says its version; a resumed run says what is to be forgotten', async () => {
  const begun = Date.now() / 1000;
  const first = new EventFile(join(folder, 'a', 'b'), 0);
  first.scalars(50, { 'train/loss': 0.5, 'train/größe': -3 });
  first.scalars(3_000_000_000, { 'validation/accuracy/language=en': Number.NaN });
  await first.close();
  const [name] = await readdir(join(folder, 'a', 'b'));
  expect(name).toMatch(/^events\.out\.tfevents\.\d{10}\./);
  const events = eventsOf(await readFile(join(folder, 'a', 'b', name!)));
  expect(events.map(({ step, version, scalars }) => ({ step, version, scalars }))).toEqual([
    { step: 0, version: 'brain.Event:2', scalars: undefined },
    { step: 50, version: undefined, scalars: { 'train/loss': 0.5, 'train/größe': -3 } },
    { step: 3_000_000_000, version: undefined, scalars: { 'validation/accuracy/language=en': Number.NaN } },
  ]);
  for (const { wallTime } of events) {
    expect(wallTime).toBeGreaterThanOrEqual(begun);
    expect(wallTime).toBeLessThanOrEqual(Date.now() / 1000);
  }
  const resumed = new EventFile(join(folder, 'c'), 40);
  await resumed.close();
  const [other] = await readdir(join(folder, 'c'));
  const [, session] = eventsOf(await readFile(join(folder, 'c', other!)));
  expect(session).toMatchObject({ step: 41, session: [[1, 1]] });
});

test('a folder that cannot be made is an IO error that names it', async () => {
  const file = new EventFile(folder, 0);
  await file.close();
  const [name] = await readdir(folder);
  expect(() => new EventFile(join(folder, name!, 'x'), 0)).toThrow(expect.objectContaining({ code: 'IO' }) as Error);
});
