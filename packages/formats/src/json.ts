/**
 * Strict JSON (RFC 8259) for files that may be hostile. Where `JSON.parse` differs, and why that matters here:
 * - a key that comes twice is an error (two readers would see two different files);
 * - integers are exact: one written as `2.0`, `4e0` or beyond 2^53 is not silently a number, it is a {@link JsonNumber};
 * - objects are Maps, so `__proto__` is a key like any other and keys keep their order;
 * - nesting and the number of values are bounded, so that a file of 100 MB cannot take the stack or gigabytes of heap.
 */
import { FinetableError } from '@finetable/core';
import { readSmallText, show } from './io.ts';

/** `number` is an integer written with digits alone, and exact; every other number is a {@link JsonNumber}. */
export type JsonValue = null | boolean | string | number | JsonNumber | JsonValue[] | JsonObject;
export type JsonObject = ReadonlyMap<string, JsonValue>;

/** A number that is not a plain exact integer, as it was written. */
export class JsonNumber {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  get value(): number {
    return Number(this.text);
  }
  toJSON(): string {
    return this.text;
  }
}

/** Deeper than any format read here: an adapter's configuration nests to 4. */
const deepest = 32;
/** About 500,000 tensors of a safetensors header. */
const mostValues = 4_000_000;
/** Longer than any f64 written in full. */
const longestNumber = 400;

/**
 * @param where what the text is called in an error: the file, or a part of it
 * @throws INVALID_FILE with the position and what was found
 */
export function parseJson(text: string, where: string): JsonValue {
  let at = 0;
  let values = 0;

  const fail = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${where}: ${message} at character ${at}`, { file: where, position: at });
  };
  const found = (): string => (at < text.length ? show(text[at]) : 'the end');
  const skipSpace = (): void => {
    for (let c = text.charCodeAt(at); c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09; c = text.charCodeAt(at))
      at++;
  };
  const take = (character: string): boolean => {
    skipSpace();
    if (text[at] !== character) return false;
    at++;
    return true;
  };

  const string = (): string => {
    const begin = at++;
    let escaped = false;
    for (;;) {
      const c = text.charCodeAt(at);
      if (c === 0x22) break;
      if (Number.isNaN(c)) return fail('a string without its closing quote');
      if (c < 0x20) return fail('a control character inside a string');
      if (c === 0x5c) {
        escaped = true;
        at++;
      }
      at++;
    }
    at++;
    if (!escaped) return text.slice(begin + 1, at - 1);
    try {
      const value = JSON.parse(text.slice(begin, at)) as string;
      // A lone surrogate cannot be written back as UTF-8.
      return /\p{Surrogate}/u.test(value) ? fail('a lone surrogate in a string') : value;
    } catch (error) {
      if (error instanceof FinetableError) throw error;
      return fail('an invalid escape in a string');
    }
  };

  const number = (): number | JsonNumber => {
    const begin = at;
    while (at < text.length && '+-.0123456789eE'.includes(text[at]!)) at++;
    if (at - begin > longestNumber) return fail(`a number of ${at - begin} characters`);
    const written = text.slice(begin, at);
    if (!/^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(written))
      return fail(`${show(written)}, which is not a number,`);
    const value = Number(written);
    return Number.isSafeInteger(value) && String(value) === written ? value : new JsonNumber(written);
  };

  const object = (depth: number): JsonObject => {
    const members = new Map<string, JsonValue>();
    at++;
    if (take('}')) return members;
    do {
      skipSpace();
      if (text[at] !== '"') return fail(`expected a key in quotes, found ${found()}`);
      const key = string();
      if (members.has(key)) return fail(`the key ${show(key)} comes twice, the second time ends`);
      if (!take(':')) return fail(`expected ":" after the key ${show(key)}, found ${found()}`);
      members.set(key, value(depth));
    } while (take(','));
    return take('}') ? members : fail(`expected "," or "}", found ${found()}`);
  };

  const array = (depth: number): JsonValue[] => {
    const items: JsonValue[] = [];
    at++;
    if (take(']')) return items;
    do items.push(value(depth));
    while (take(','));
    return take(']') ? items : fail(`expected "," or "]", found ${found()}`);
  };

  const word = <T extends true | false | null>(result: T): T => {
    if (!text.startsWith(String(result), at)) return fail(`expected a value, found ${found()}`);
    at += String(result).length;
    return result;
  };

  const value = (depth: number): JsonValue => {
    if (++values > mostValues) return fail(`more than ${mostValues} values`);
    skipSpace();
    const c = text[at];
    if ((c === '{' || c === '[') && depth === deepest) return fail(`nesting too deep (allowed: ${deepest})`);
    if (c === '{') return object(depth + 1);
    if (c === '[') return array(depth + 1);
    if (c === '"') return string();
    if (c === 't') return word(true);
    if (c === 'f') return word(false);
    if (c === 'n') return word(null);
    if (c !== undefined && '-0123456789'.includes(c)) return number();
    return fail(`expected a value, found ${found()}`);
  };

  const result = value(0);
  skipSpace();
  if (at < text.length) fail(`found ${found()} after the end of the JSON`);
  return result;
}

/** Large enough for any configuration or index, small enough to hold. */
const largestJsonFileBytes = 64 * 2 ** 20;

/** A JSON file whose outermost value is an object. */
export async function readJsonObject(path: string): Promise<JsonObject> {
  const value = parseJson(await readSmallText(path, largestJsonFileBytes), path);
  if (value instanceof Map) return value;
  throw new FinetableError('INVALID_FILE', `${path}: the JSON is ${show(value)}; allowed: an object`, { file: path });
}

/**
 * The text of a JSON file of ours: keys in the order given, two spaces, a newline at the end. A Map becomes an object and keeps
 * its order even for keys such as `0`, which a JavaScript object would put first.
 */
export function formatJson(value: unknown): string {
  return `${format(value, '\n')}\n`;
}

function format(value: unknown, newline: string): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const inner = `${newline}  `;
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]';
    return `[${value.map((item) => inner + format(item, inner)).join(',')}${newline}]`;
  }
  const members = value instanceof Map ? [...(value as ReadonlyMap<string, unknown>)] : Object.entries(value);
  if (members.length === 0) return '{}';
  return `{${members.map(([key, item]) => `${inner}${JSON.stringify(key)}: ${format(item, inner)}`).join(',')}${newline}}`;
}
