import { mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { FinetableError } from '@finetable/core';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { readSafetensorsHeader } from './header.ts';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'finetable-'));
  path = join(folder, 'x.safetensors');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A file of a header, given as text or bytes, and `dataBytes` zeros; `length` lies about the header's length. */
function file(header: string | Uint8Array, dataBytes = 0, length?: bigint): Buffer {
  const json = Buffer.from(header);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(json.length));
  return Buffer.concat([prefix, json, Buffer.alloc(dataBytes)]);
}

async function readBytes(bytes: Uint8Array) {
  await writeFile(path, bytes);
  return readSafetensorsHeader(path);
}

const tensor = (dtype: unknown, shape: unknown, offsets: unknown): string =>
  `{"dtype":${JSON.stringify(dtype)},"shape":${JSON.stringify(shape)},"data_offsets":${JSON.stringify(offsets)}}`;
const a = (fields: string): string => `{"a":{${fields}}}`;

test.each<[name: string, bytes: Uint8Array, message: RegExp]>([
  ['an empty file', Buffer.alloc(0), /has 0 bytes; a safetensors file has at least 8/],
  ['7 bytes', Buffer.alloc(7), /has 7 bytes/],
  ['header length 0', Buffer.alloc(8), /the header length is 0; allowed: 2 and more/],
  ['a huge header length', file('{}', 0, 100_000_001n), /the header length is 100000001; allowed: at most 100000000/],
  ['header length 2^64 - 1', file('{}', 0, 2n ** 64n - 1n), /the header length is 18446744073709551615/],
  ['a header past the end', file('{}', 0, 3n), /the header length is 3, but only 2 bytes follow it/],
  ['not UTF-8', file(Buffer.from([0x7b, 0xff, 0x7d])), /the header is not UTF-8/],
  ['a byte order mark', file('\ufeff{}'), /begins with a byte order mark/],
  ['a NUL after the JSON', file('{}\0'), /has a NUL at character 2/],
  ['garbage after the JSON', file('{}x'), /the header: found "x" after the end of the JSON at character 2/],
  ['an array', file('[]'), /begins with "\[", it is not an object/],
  ['space before the object', file(' {}'), /begins with " ", it is not an object/],
  ['half an object', file('{"a":'), /expected a value, found the end/],
  ['deep nesting', file(`{"a":${'['.repeat(100_000)}`), /nesting too deep/],
  ['a tensor that is no object', file('{"a":1}'), /tensor "a": is 1; allowed: an object/],
  [
    'a hole',
    file(`{"a":${tensor('U8', [1], [0, 1])},"b":${tensor('U8', [1], [2, 3])}}`, 3),
    /tensor "b" leaves a hole of 1 bytes before it/,
  ],
  ['a hole at the start', file(`{"a":${tensor('U8', [1], [1, 2])}}`, 2), /tensor "a" leaves a hole of 1 bytes/],
  [
    'an overlap',
    file(`{"a":${tensor('U8', [2], [0, 2])},"b":${tensor('U8', [2], [1, 3])}}`, 3),
    /tensor "b" overlaps "a"/,
  ],
  [
    'an alias',
    file(`{"a":${tensor('U8', [2], [0, 2])},"b":${tensor('U8', [2], [0, 2])}}`, 2),
    /tensor "b" is an alias of "a"/,
  ],
  ['end before begin', file(`{"a":${tensor('U8', [1], [1, 0])}}`, 1), /data_offsets end at 0, before they begin at 1/],
  [
    'a truncated file',
    file(`{"a":${tensor('U8', [4], [0, 4])}}`, 3),
    /is truncated: the header describes \d+ bytes, the file has/,
  ],
  ['trailing bytes', file(`{"a":${tensor('U8', [4], [0, 4])}}`, 5), /has 1 trailing bytes/],
  ['data without tensors', file('{}', 5), /has 5 trailing bytes/],
  [
    'another span than the shape',
    file(`{"a":${tensor('F32', [2], [0, 4])}}`, 4),
    /shape \[2\] of F32 takes 8 bytes, data_offsets span 4/,
  ],
  [
    'too many values',
    file(`{"a":${tensor('U8', [2 ** 40, 2 ** 40], [0, 0])}}`),
    /overflows: it has more than 2\^53 values/,
  ],
  ['too many bytes', file(`{"a":${tensor('F64', [2 ** 52], [0, 0])}}`), /overflows: it takes more than 2\^53 bytes/],
  ['a negative dimension', file(`{"a":${tensor('U8', [-1], [0, 0])}}`), /shape holds -1, which is negative/],
  ['minus zero', file(a('"dtype":"U8","shape":[-0],"data_offsets":[0,0]')), /shape holds "-0"/],
  [
    'a fractional dimension',
    file(a('"dtype":"U8","shape":[2.0],"data_offsets":[0,2]'), 2),
    /shape holds "2\.0"; allowed: integers/,
  ],
  [
    'an exponent',
    file(a('"dtype":"U8","shape":[4e0],"data_offsets":[0,4]'), 4),
    /shape holds "4e0"; allowed: integers/,
  ],
  [
    'a dimension beyond 2^53',
    file(a('"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,0]')),
    /shape holds "9007199254740993"/,
  ],
  ['a string dimension', file(`{"a":${tensor('U8', ['1'], [0, 1])}}`, 1), /shape holds "1"; allowed: integers/],
  ['a shape that is no array', file(`{"a":${tensor('U8', 1, [0, 1])}}`, 1), /shape is 1; allowed: an array/],
  ['one offset', file(`{"a":${tensor('U8', [], [1])}}`, 1), /data_offsets has 1 numbers; allowed: exactly 2/],
  ['three offsets', file(`{"a":${tensor('U8', [], [0, 1, 1])}}`, 1), /data_offsets has 3 numbers/],
  ['string offsets', file(`{"a":${tensor('U8', [], ['0', '1'])}}`, 1), /data_offsets holds "0"; allowed: integers/],
  ['a negative offset', file(`{"a":${tensor('U8', [], [-1, 0])}}`, 1), /data_offsets holds -1/],
  ['an unknown dtype', file(`{"a":${tensor('F128', [], [0, 1])}}`, 1), /unknown dtype "F128"; allowed: F64, F32/],
  ['an inherited name as dtype', file(`{"a":${tensor('toString', [], [0, 1])}}`, 1), /unknown dtype "toString"/],
  [
    'a lower-case dtype',
    file(`{"a":${tensor('f32', [], [0, 4])}}`, 4),
    /dtype "f32" is not upper case; allowed: "F32"/,
  ],
  ['a dtype that is no string', file(`{"a":${tensor(4, [], [0, 4])}}`, 4), /unknown dtype 4/],
  ['no dtype', file(a('"shape":[],"data_offsets":[0,1]'), 1), /tensor "a": dtype is missing/],
  ['no shape', file(a('"dtype":"U8","data_offsets":[0,1]'), 1), /tensor "a": shape is missing/],
  ['no offsets', file(a('"dtype":"U8","shape":[]'), 1), /tensor "a": data_offsets is missing/],
  ['an unknown field', file(a('"dtype":"U8","shape":[],"data_offsets":[0,1],"x":1'), 1), /unknown field "x"/],
  ['metadata that is no object', file('{"__metadata__":"x"}'), /__metadata__ is "x"; allowed: an object/],
  ['metadata that is no string', file('{"__metadata__":{"a":1}}'), /__metadata__ "a" is 1; allowed: a string/],
  [
    'two tensors of one name',
    file(`{"a":${tensor('U8', [], [0, 1])},"a":${tensor('U8', [], [0, 1])}}`, 1),
    /the key "a" comes twice/,
  ],
  [
    'two names, one escaped',
    file(`{"a":${tensor('U8', [], [0, 1])},"\\u0061":${tensor('U8', [], [1, 2])}}`, 2),
    /the key "a" comes twice/,
  ],
])('refuses %s', async (_, bytes, message) => {
  const error = await readBytes(bytes).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(FinetableError);
  expect(error).toMatchObject({ code: 'INVALID_FILE', details: { file: expect.stringContaining(path) as string } });
  expect((error as Error).message).toMatch(message);
  expect((error as Error).message).toContain(path);
});

test('accepts scalars, zero dimensions, any key order, an unaligned header, padding, tensors in any order', async () => {
  const second = '{"data_offsets":[1,5],"shape":[],"dtype":"F32"}';
  const header = `{"b":${second},"__metadata__":{"k":"ü"},"a":${tensor('I8', [1, 1], [0, 1])},"z":${tensor('F64', [0, 9], [1, 1])}}  `;
  const { tensors, metadata, fileBytes } = await readBytes(file(header, 5));
  const begin = 8 + Buffer.byteLength(header);
  expect(begin % 8).not.toBe(0);
  expect([...tensors]).toEqual([
    ['b', { dtype: 'F32', shape: [], byteOffset: begin + 1, byteLength: 4 }],
    ['a', { dtype: 'I8', shape: [1, 1], byteOffset: begin, byteLength: 1 }],
    ['z', { dtype: 'F64', shape: [0, 9], byteOffset: begin + 1, byteLength: 0 }],
  ]);
  expect({ ...metadata }).toEqual({ k: 'ü' });
  expect(fileBytes).toBe(begin + 5);
});

test('__proto__ is harmless as a tensor and in the metadata', async () => {
  const { tensors, metadata } = await readBytes(
    file(`{"__metadata__":{"__proto__":"m"},"__proto__":${tensor('U8', [], [0, 1])}}`, 1),
  );
  expect([...tensors.keys()]).toEqual(['__proto__']);
  expect(Object.entries(metadata)).toEqual([['__proto__', 'm']]);
  expect(Object.getPrototypeOf(metadata)).toBeNull();
});

test('reads nothing but the header', async () => {
  const header = `{"a":${tensor('U8', [2 ** 33], [0, 2 ** 33])}}`;
  await writeFile(path, file(header));
  await truncate(path, 8 + header.length + 2 ** 33); // sparse: takes no room
  const handle = await open(folder, 'r');
  await handle.close();
  const read = vi.spyOn(Object.getPrototypeOf(handle) as typeof handle, 'read');
  const { tensors } = await readSafetensorsHeader(path);
  expect(tensors.get('a')?.byteLength).toBe(2 ** 33);
  const lengths = read.mock.calls.map((call) => (call as unknown[])[2]);
  read.mockRestore();
  expect(lengths).toEqual([8, header.length]);
});

test('what is not a file', async () => {
  await expect(readSafetensorsHeader(join(folder, 'none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(readSafetensorsHeader(folder)).rejects.toThrow(/is a folder; a regular file is needed/);
  await expect(readSafetensorsHeader('/dev/null')).rejects.toThrow(/not a regular file/);
});

test('any mutation of a good file gives a FinetableError or a header that stays inside the file', async () => {
  const header = `{"__metadata__":{"k":"v"},"a":${tensor('F32', [2, 3], [0, 24])},"b":${tensor('F16', [4], [24, 32])},"c":${tensor('U8', [], [32, 33])}}`;
  const good = file(header, 33);
  const pieces = [
    '"',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '0',
    '-1',
    '1e1',
    '2.0',
    '99999999999999999999',
    'null',
    '\\',
    '\0',
    '"a"',
    '"dtype"',
    '\u00fc',
  ];
  const mutation = fc.oneof(
    fc.record({ kind: fc.constant('byte' as const), at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) }),
    fc.record({ kind: fc.constant('insert' as const), at: fc.nat(), value: fc.constantFrom(...pieces) }),
    fc.record({ kind: fc.constant('delete' as const), at: fc.nat(), value: fc.integer({ min: 1, max: 40 }) }),
    fc.record({ kind: fc.constant('repeat' as const), at: fc.nat(), value: fc.integer({ min: 1, max: 60 }) }),
  );
  let accepted = 0;
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), fc.boolean(), async (mutations, fixLength) => {
      let bytes = Buffer.from(good);
      for (const { kind, at, value } of mutations) {
        const place = at % bytes.length;
        const rest = bytes.subarray(place);
        if (kind === 'byte') bytes[place] = value;
        else if (kind === 'insert') bytes = Buffer.concat([bytes.subarray(0, place), Buffer.from(value), rest]);
        else if (kind === 'delete') bytes = Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + value)]);
        else bytes = Buffer.concat([bytes.subarray(0, place), rest.subarray(0, value), rest]);
      }
      // So that most mutations get past the length and reach the JSON.
      if (fixLength && bytes.length > 50) bytes.writeBigUInt64LE(BigInt(bytes.length - 8 - 33));
      try {
        const { tensors, fileBytes } = await readBytes(bytes);
        expect(fileBytes).toBe(bytes.length);
        for (const { byteOffset, byteLength } of tensors.values()) {
          expect(byteOffset).toBeGreaterThan(8);
          expect(byteOffset + byteLength).toBeLessThanOrEqual(bytes.length);
        }
        accepted++;
      } catch (error) {
        if (!(error instanceof FinetableError)) throw error;
        expect(error.code).toBe('INVALID_FILE');
        refused++;
      }
    }),
    { numRuns: 1500 },
  );
  expect(accepted).toBeGreaterThan(10);
  expect(refused).toBeGreaterThan(500);
});
