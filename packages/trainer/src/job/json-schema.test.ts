import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { batchJsonSchema, jobJsonSchema } from './json-schema.ts';

const examples = fileURLToPath(new URL('../../../../examples/', import.meta.url));

test('the examples are valid by the JSON Schema that they name', async () => {
  const ours = (path: string): boolean => path.endsWith('.yaml') && !/(^|\/)runs\//.test(path);
  const paths = (await readdir(examples, { recursive: true })).filter(ours);
  expect(paths.length).toBeGreaterThan(8);
  const schemas = { job: z.fromJSONSchema(jobJsonSchema()), batch: z.fromJSONSchema(batchJsonSchema()) };
  for (const path of paths) {
    const text = await readFile(`${examples}${path}`, 'utf8');
    const named = /^# yaml-language-server: \$schema=(?:\.\.\/)+packages\/trainer\/(job|batch)\.schema\.json\n/.exec(
      text,
    );
    expect(named, `${path} names its schema`).not.toBeNull();
    const { success, error } = schemas[named![1] as 'job' | 'batch'].safeParse(parse(text, { merge: true }));
    expect(success, `${path}: ${error}`).toBe(true);
  }
});

test('what editors refuse: unknown fields and wrong values; what they complete: a meaning for every field', () => {
  const job = parse('{ name: a, tables: {}, data: { train: { file: a.csv } }, features: {}, objective: { type: ctr, inputs: [a], label: y }, optimizer: { type: sgd, learningRate: 1 } }') as object; // prettier-ignore
  const schema = z.fromJSONSchema(jobJsonSchema());
  expect(schema.safeParse(job).success).toBe(true);
  expect(schema.safeParse({ ...job, trian: {} }).success).toBe(false);
  expect(schema.safeParse({ ...job, adapters: { a: { rank: 8 } } }).success).toBe(true);
  expect(schema.safeParse({ ...job, adapters: { a: { rank: 0 } } }).success).toBe(false);
  const bare = [...undescribed(jobJsonSchema(), ''), ...undescribed(batchJsonSchema(), '')];
  expect(bare).toEqual([]);
});

/** Fields without a description, by path. */
function* undescribed(schema: unknown, path: string): Generator<string> {
  if (typeof schema !== 'object' || schema === null) return;
  const { properties = {}, ...rest } = schema as {
    properties?: Record<string, { description?: string; const?: unknown }>;
  };
  for (const [name, property] of Object.entries(properties)) {
    if (property.description === undefined && property.const === undefined) yield `${path}.${name}`;
    yield* undescribed(property, `${path}.${name}`);
  }
  for (const [key, inner] of Object.entries(rest)) if (key !== 'default') yield* undescribed(inner, path);
}
