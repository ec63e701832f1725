/** From a job file, or a plain object, to a checked job: every problem named by its field's path. */
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { FinetableError } from '@finetable/core';
import { closest, distance } from 'fastest-levenshtein';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { jobSchema, type Job } from './schema.ts';

/** A checked job, and the folder that its paths are relative to. */
export interface LoadedJob {
  readonly job: Job;
  readonly folder: string;
}

/**
 * Reads a job file, YAML or JSON.
 * @param overrides `a.b=c` texts, the values in YAML; they win over the file
 * @throws NOT_FOUND, INVALID_JOB listing every wrong field
 */
export async function readJob(path: string, overrides: readonly string[] = []): Promise<LoadedJob> {
  const input = await readYaml(path, 'a job is a mapping (name, tables, data, …)');
  for (const override of overrides) applyOverride(input, override);
  return { job: checkJob(input, path), folder: dirname(resolve(path)) };
}

/** @param what it should be, for errors @throws NOT_FOUND, IO, INVALID_JOB for a file that is no YAML mapping */
export async function readYaml(path: string, what: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new FinetableError(
      missing ? 'NOT_FOUND' : 'IO',
      `${path}: ${missing ? 'no such job file; finetable init writes one' : String((error as Error).message)}`,
      { file: path },
      { cause: error },
    );
  }
  return parseYaml(text, path, what);
}

/** Checks a job given as an object. @param where what it is called in errors */
export function checkJob(input: unknown, where = 'job'): Job {
  return checkSchema(jobSchema, input, where);
}

/** @throws INVALID_JOB listing every wrong field */
export function checkSchema<T extends z.ZodType>(schema: T, input: unknown, where: string): z.output<T> {
  const result = schema.safeParse(input, { reportInput: true });
  if (result.success) return result.data;
  const problems = result.error.issues.flatMap((issue) => describe(issue, schema));
  throw new FinetableError('INVALID_JOB', `${where}: ${problems.map(({ text }) => text).join('\n  ')}`, {
    file: where,
    path: problems[0]!.path,
    problems: problems.map(({ text }) => text),
  });
}

function parseYaml(text: string, where: string, what: string): Record<string, unknown> {
  const document = parseDocument(text, { uniqueKeys: true, merge: true });
  const error = document.errors[0];
  if (error)
    throw new FinetableError('INVALID_JOB', `${where}: ${error.message.trim()}`, {
      file: where,
      line: error.linePos?.[0].line ?? 0,
    });
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    throw new FinetableError('INVALID_JOB', `${where}: ${(cause as Error).message}`, { file: where }, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FinetableError(
      'INVALID_JOB',
      `${where}: ${what}; found ${value === null ? 'nothing' : JSON.stringify(value).slice(0, 60)}`,
      { file: where },
    );
  }
  return unshared(value) as Record<string, unknown>;
}

/** What an alias stands for is copied: an override of one place must not change the others. */
function unshared(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unshared);
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([key, own]) => [key, unshared(own)]));
}

function applyOverride(job: Record<string, unknown>, override: string): void {
  const equals = override.indexOf('=');
  const path = override.slice(0, Math.max(0, equals)).split('.');
  if (path.some((key) => key === '' || key === '__proto__')) {
    throw new FinetableError('INVALID_JOB', `--set ${override}: allowed: field.path=value, such as train.epochs=5`, {
      path: override,
    });
  }
  const parsed = parseDocument(override.slice(equals + 1));
  const error = parsed.errors[0];
  if (error)
    throw new FinetableError('INVALID_JOB', `--set ${override}: ${error.message.trim()}`, { path: path.join('.') });
  setField(job, path, parsed.toJS(), `--set ${override}`);
}

/** Sets a field by its path, making the mappings on the way. @param where what asks for it, for errors */
export function setField(job: Record<string, unknown>, path: readonly string[], value: unknown, where: string): void {
  let at = job;
  for (const key of path.slice(0, -1)) {
    const next = at[key] ?? (at[key] = {});
    if (typeof next !== 'object') {
      throw new FinetableError('INVALID_JOB', `${where}: "${key}" is ${JSON.stringify(next)}, which has no fields`, {
        path: path.join('.'),
      });
    }
    at = next as Record<string, unknown>;
  }
  at[path.at(-1)!] = value;
}

interface Problem {
  readonly path: string;
  readonly text: string;
}

/** The nearest of the known names, where it is likely to be the one that was meant. */
function suggestion(name: string, known: readonly string[]): string {
  const [given, nearest] = [name.toLowerCase(), closest(name, known)];
  const beginning = known.filter((other) => given.length > 2 && other.toLowerCase().startsWith(given)).sort()[0];
  const meant = beginning ?? (2 * distance(name, nearest) <= name.length ? nearest : null);
  return meant === null ? '.' : `; did you mean "${meant}"?`;
}

/** One line per problem: path, what was found, what is allowed. */
function describe(issue: z.core.$ZodIssue, schema: z.ZodType): Problem[] {
  const path = issue.path.map(String).join('.') || 'job';
  const found = (value: unknown): string =>
    value === undefined
      ? 'missing'
      : `found ${shorten(typeof value === 'number' ? String(value) : JSON.stringify(value))}`;
  const say = (text: string): Problem[] => [{ path, text: `${path}: ${text}` }];
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = knownKeys(schema, issue.path, issue.input);
      return issue.keys.map((key) => {
        const at = [...issue.path.map(String), key].join('.');
        const here = known.length > 0 ? `${suggestion(key, known)} Known here: ${known.join(', ')}` : '';
        return { path: at, text: `${at}: unknown field${here}` };
      });
    }
    case 'invalid_type':
      return say(
        `${found(issue.input)}; allowed: ${issue.expected === 'int' ? 'an integer' : typeof issue.input === 'number' ? 'a finite number' : articled(issue.expected)}`,
      );
    case 'invalid_value':
      return say(`${found(issue.input)}; allowed: ${issue.values.map((v) => JSON.stringify(v)).join(', ')}`);
    case 'too_small':
      return say(
        `${found(issue.input)}; allowed: ${issue.origin === 'array' ? `${issue.minimum} entries or more` : `${issue.inclusive ? '' : 'more than '}${issue.minimum}${issue.inclusive ? ' or more' : ''}`}`,
      );
    case 'too_big':
      return say(
        `${found(issue.input)}; allowed: ${issue.inclusive ? `${issue.maximum} or less` : `less than ${issue.maximum}`}`,
      );
    case 'invalid_union': {
      const options =
        'options' in issue && Array.isArray(issue.options)
          ? `; allowed: ${issue.options.map((v) => JSON.stringify(v)).join(', ')}`
          : '';
      // Of a plain union, what the form that came furthest had to say is the most useful; where none came anywhere, all forms are.
      const [furthest, ...others] = issue.errors
        .map((errors) => errors[0])
        .filter((e) => e !== undefined)
        .sort((a, b) => b.path.length - a.path.length);
      if (!options && furthest) {
        const within = { ...furthest, path: [...issue.path, ...furthest.path] } as z.core.$ZodIssue;
        const [problem, ...more] = describe(within, schema);
        if (furthest.path.length > 0 || more.length > 0) return [problem!, ...more];
        const forms = others.map(
          (other) => describe({ ...other, path: issue.path } as z.core.$ZodIssue, schema)[0]!.text,
        );
        const allowed = forms.map((text) => text.split('; allowed: ')[1]).filter((form) => form !== undefined);
        return [{ path, text: [problem!.text, ...allowed].join(' or ') }];
      }
      const tag =
        issue.discriminator === undefined ? undefined : (issue.input as Record<string, unknown>)[issue.discriminator];
      return say(`${found(issue.discriminator === undefined ? issue.input : tag)}${options}`);
    }
    case 'invalid_key':
      return say(`a bad name; allowed: letters, digits, ".", "_" and "-", starting with a letter or digit`);
    case 'invalid_format':
      return say(`${found(issue.input)}; allowed: ${issue.message}`);
    default:
      return say(issue.message);
  }
}

/** The keys that the schema knows at a path, by walking it along the input. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[], input: unknown): string[] {
  let schemas: z.core.$ZodType[] = [schema];
  for (const key of path) schemas = schemas.flatMap(unwrap).flatMap((schema) => child(schema, key));
  const objects = schemas.flatMap(unwrap).filter((schema) => schema instanceof z.ZodObject);
  // Of a union, only the member that the input chose by its `type` or `kind`.
  const chosen = objects.filter((schema) => {
    const record = input as Record<string, unknown> | undefined;
    return (['type', 'kind'] as const).every((tag) => {
      const literal: unknown = schema.shape[tag];
      return (
        !(literal instanceof z.ZodLiteral) || literal.value === (record?.[tag] ?? (tag === 'kind' ? 'lora' : undefined))
      );
    });
  });
  return [...new Set((chosen.length > 0 ? chosen : objects).flatMap((schema) => Object.keys(schema.shape)))];
}

function unwrap(schema: z.core.$ZodType): z.core.$ZodType[] {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault) return unwrap(schema.unwrap());
  if (schema instanceof z.ZodPipe) return unwrap(schema.out);
  if (schema instanceof z.ZodUnion) return schema.options.flatMap(unwrap);
  return [schema];
}

function child(schema: z.core.$ZodType, key: PropertyKey): z.core.$ZodType[] {
  if (schema instanceof z.ZodObject)
    return [(schema.shape as Record<PropertyKey, z.core.$ZodType>)[key]!].filter((s) => s !== undefined);
  if (schema instanceof z.ZodRecord) return [schema.valueType];
  if (schema instanceof z.ZodArray) return [schema.element];
  return [];
}

const articled = (type: string): string => (/^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`);
const shorten = (text: string): string => (text.length > 80 ? `${text.slice(0, 77)}...` : text);
