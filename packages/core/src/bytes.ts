/** Byte sizes as people write them. */
import { FinetableError } from './errors.ts';

const units: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/**
 * Bytes from a number (bytes), `"8GiB"`, `"500 MB"`, or, where `total` is given, a share of it such as `"75%"`.
 * @param where what the value is called in an error, such as `placement.memory`
 * @throws INVALID_ARGUMENT for anything else
 */
export function parseBytes(value: number | string, where: string, total?: number): number {
  const refuse = (): never => {
    const share = total === undefined ? '' : ', or a share such as "75%"';
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${where}: ${typeof value === 'string' ? JSON.stringify(value) : String(value)} is not a size; allowed: a number of bytes, or text such as "8GiB", "500MB"${share}`,
      { path: where, found: String(value) },
    );
  };
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : refuse();
  const share = /^\s*(\d+(?:\.\d+)?)\s*%\s*$/.exec(value);
  if (share) {
    const percent = Number(share[1]);
    return total === undefined || percent > 100 ? refuse() : Math.floor((total * percent) / 100);
  }
  const match = /^\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B|B)?\s*$/.exec(value);
  if (!match) return refuse();
  const bytes = Math.round(Number(match[1]) * units[match[2] ?? 'B']!);
  return Number.isSafeInteger(bytes) ? bytes : refuse();
}

/** `1536` -> `"1.5 KiB"`; three significant digits, binary units. */
export function formatBytes(bytes: number): string {
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < names.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : Number(value.toPrecision(3))} ${names[unit]}`;
}
