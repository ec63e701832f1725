/**
 * `adapter_config.json`: PEFT's LoRA configuration, and our `finetable` member on top of it. What the configuration asks for and
 * we would not do is refused by name, never ignored.
 *
 * Fields and defaults: PEFT 0.21, `src/peft/tuners/lora/config.py`.
 */
import { FinetableError } from '@finetable/core';
import { show } from '../io.ts';
import { JsonNumber, type JsonObject, type JsonValue } from '../json.ts';

export const configName = 'adapter_config.json';
export const tensorsName = 'adapter_model.safetensors';

/** What the configuration says of one module. */
export interface ModuleFactors {
  readonly rank: number;
  readonly alpha: number;
}

export interface AdapterConfig {
  /** PEFT's list of module names; null where it is a regular expression or absent. */
  readonly targetModules: readonly string[] | null;
  /** By PEFT's patterns, or of the sparse format by the name itself. */
  readonly factorsOf: (module: string) => ModuleFactors;
  readonly rsLora: boolean;
  readonly dora: boolean;
  /** Our member, which makes it a sparse adapter; null in a PEFT folder. */
  readonly finetable: JsonObject | null;
}

/** Fields that change nothing in what is stored: where the adapter came from, how it was started, which modules were chosen. */
const informative = new Set([
  'peft_type', 'peft_version', 'auto_mapping', 'base_model_name_or_path', 'revision', 'task_type', 'inference_mode', 'runtime_config',
  'r', 'lora_alpha', 'target_modules', 'exclude_modules', 'layers_to_transform', 'layers_pattern', 'rank_pattern', 'alpha_pattern',
  'use_rslora', 'use_dora', 'lora_dropout', 'megatron_core', 'qalora_group_size', 'loftq_config', 'eva_config', 'corda_config', 'lora_ga_config', 'finetable',
]); // prettier-ignore

/** Fields that must have one of these values, with the reason for the refusal of any other. */
const required: readonly (readonly [field: string, allowed: readonly JsonValue[], reason: string])[] = [
  ['bias', ['none'], 'trained biases are not supported'],
  ['init_lora_weights', [true, false, 'gaussian', 'orthogonal', 'eva', 'mica'], 'an initialisation that changes the base is not supported'],
]; // prettier-ignore

/** Checks of one file's fields; what they throw names file, field, what was found and what is allowed. */
export class Fields {
  readonly file: string;

  constructor(file: string) {
    this.file = file;
  }

  fail(code: 'INVALID_FILE' | 'UNSUPPORTED', field: string, value: JsonValue | undefined, allowed: string): never {
    const found = value === undefined ? 'missing' : show(plain(value));
    throw new FinetableError(code, `${this.file}: ${field} is ${found}; allowed: ${allowed}`, {
      file: this.file,
      path: field,
    });
  }

  rank(value: JsonValue | undefined, field: string): number {
    return typeof value === 'number' && value >= 1
      ? value
      : this.fail('INVALID_FILE', field, value, 'an integer from 1');
  }

  number(value: JsonValue | undefined, field: string): number {
    const number = plain(value);
    return typeof number === 'number' && Number.isFinite(number)
      ? number
      : this.fail('INVALID_FILE', field, value, 'a finite number');
  }

  flag(value: JsonValue | undefined, field: string): boolean {
    return typeof value === 'boolean' ? value : this.fail('INVALID_FILE', field, value, 'true or false');
  }

  text(value: JsonValue | undefined, field: string): string {
    return typeof value === 'string' ? value : this.fail('INVALID_FILE', field, value, 'text');
  }

  kind(value: JsonValue | undefined, field: string): 'lora' | 'dense' {
    return value === 'lora' || value === 'dense' ? value : this.fail('INVALID_FILE', field, value, '"lora" or "dense"');
  }

  object(value: JsonValue | undefined, field: string): JsonObject {
    return value instanceof Map ? (value as JsonObject) : this.fail('INVALID_FILE', field, value, 'an object');
  }

  /** Every member of an object, checked; no members where there is no object. */
  map<T>(
    value: JsonValue | undefined,
    field: string,
    check: (value: JsonValue, field: string) => T,
  ): ReadonlyMap<string, T> {
    const members = [...this.object(value ?? new Map<string, JsonValue>(), field)];
    return new Map(members.map(([key, item]) => [key, check(item, `${field}.${key}`)]));
  }
}

/**
 * Checks a configuration and gives what the tensors are read with.
 * @throws INVALID_FILE (a field is wrong), UNSUPPORTED (a field asks for something that is not done); both name file, field,
 * what was found and what is allowed
 */
export function parseAdapterConfig(json: JsonObject, file: string): AdapterConfig {
  const fields = new Fields(file);
  if (json.get('peft_type') !== 'LORA') fields.fail('UNSUPPORTED', 'peft_type', json.get('peft_type'), '"LORA"');
  for (const [field, allowed, reason] of required) {
    const value = plain(json.get(field));
    if (value !== undefined && value !== null && !allowed.includes(value)) {
      fields.fail('UNSUPPORTED', field, value, `${allowed.map(show).join(', ')}: ${reason}`);
    }
  }
  for (const [field, value] of json) {
    if (informative.has(field) || required.some(([name]) => name === field) || isEmpty(value)) continue;
    fields.fail('UNSUPPORTED', field, value, 'null, false or empty: what it asks for is not supported');
  }
  const dropout = fields.number(json.get('lora_dropout') ?? 0, 'lora_dropout');
  if (dropout < 0 || dropout >= 1)
    fields.fail('INVALID_FILE', 'lora_dropout', json.get('lora_dropout'), 'a number from 0, below 1');
  const finetable = json.has('finetable') ? fields.object(json.get('finetable'), 'finetable') : null;

  const pattern = <T>(field: string, check: (value: JsonValue, field: string) => T): ReadonlyMap<string, T> => {
    const checked = fields.map(json.get(field) ?? undefined, field, check);
    for (const key of checked.keys()) {
      if (!finetable && !isPlainModule(key)) {
        const allowed = 'module names of letters, digits, "_", "-" and "."; regular expressions are not supported';
        fields.fail('UNSUPPORTED', field, key, allowed);
      }
    }
    return checked;
  };
  const ranks = pattern('rank_pattern', (value, field) => fields.rank(value, field));
  const alphas = pattern('alpha_pattern', (value, field) => fields.number(value, field));
  const rank = fields.rank(json.get('r') ?? 8, 'r');
  const alpha = fields.number(json.get('lora_alpha') ?? 8, 'lora_alpha');
  const find = finetable ? <T>(values: ReadonlyMap<string, T>, table: string) => values.get(table) : matchPattern;

  return {
    targetModules: parseTargets(json.get('target_modules') ?? null),
    factorsOf: (module) => ({ rank: find(ranks, module) ?? rank, alpha: find(alphas, module) ?? alpha }),
    rsLora: fields.flag(json.get('use_rslora') ?? false, 'use_rslora'),
    dora: fields.flag(json.get('use_dora') ?? false, 'use_dora'),
    finetable,
  };

  function parseTargets(value: JsonValue): readonly string[] | null {
    if (value === null || typeof value === 'string') return null;
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
    return fields.fail('INVALID_FILE', 'target_modules', value, 'a list of module names, or text');
  }
}

function plain<T extends JsonValue | undefined>(value: T | JsonNumber): Exclude<T, JsonNumber> | number {
  return value instanceof JsonNumber ? value.value : (value as Exclude<T, JsonNumber>);
}

function isEmpty(value: JsonValue): boolean {
  if (value instanceof Map) return value.size === 0;
  return value === null || value === false || value === '' || (Array.isArray(value) && value.length === 0);
}

/** A name that stands for itself, near enough, where PEFT reads it as a regular expression. */
export function isPlainModule(name: string): boolean {
  return /^[\w.-]+$/.test(name);
}

/** PEFT's rule for `target_modules`: the whole module path, or its end after a dot. */
export function matchesModule(target: string, module: string): boolean {
  return module === target || module.endsWith(`.${target}`);
}

/** PEFT's rule for `rank_pattern` and `alpha_pattern`, of plain keys: a dot in one stands for any character; the first match wins. */
export function matchPattern<T>(pattern: ReadonlyMap<string, T>, module: string): T | undefined {
  for (const [key, value] of pattern) if (new RegExp(`^(?:.*\\.)?${key}$`).test(module)) return value;
  return undefined;
}

/**
 * A PEFT configuration. Where modules differ, each is named in the pattern: longer names first, and of the same length those with
 * fewer dots, since PEFT takes the first key that matches the end of the module's path, and a dot matches any character.
 * @param factors of each of `modules`
 * @param extra members that follow PEFT's own
 */
export function adapterConfig(
  modules: readonly string[],
  factors: readonly ModuleFactors[],
  { rsLora, dora }: { readonly rsLora: boolean; readonly dora: boolean },
  extra: object = {},
): object {
  const first = factors[0]!;
  const pattern = (of: (module: ModuleFactors) => number): ReadonlyMap<string, number> =>
    factors.every((module) => of(module) === of(first))
      ? new Map()
      : mostSpecificFirst(modules.map((module, i) => [module, of(factors[i]!)]));
  return {
    peft_type: 'LORA',
    task_type: null,
    base_model_name_or_path: null,
    r: first.rank,
    lora_alpha: first.alpha,
    target_modules: modules,
    rank_pattern: pattern(({ rank }) => rank),
    alpha_pattern: pattern(({ alpha }) => alpha),
    use_rslora: rsLora,
    use_dora: dora,
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    inference_mode: true,
    ...extra,
  };
}

export function mostSpecificFirst<T>(pairs: readonly (readonly [string, T])[]): ReadonlyMap<string, T> {
  const dots = (name: string): number => name.split('.').length;
  const order = ([a]: readonly [string, T], [b]: readonly [string, T]): number =>
    b.length - a.length || dots(a) - dots(b) || (a < b ? -1 : 1);
  return new Map([...pairs].sort(order));
}
