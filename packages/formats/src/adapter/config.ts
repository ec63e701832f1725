/**
 * `adapter_config.json`: PEFT's LoRA configuration, and our `finetable` member on top of it. What the configuration asks for and
 * we would not do is refused by name, never ignored.
 *
 * Fields and defaults: PEFT 0.21, `src/peft/tuners/lora/config.py`.
 */
import { FinetableError } from '@finetable/core';
import { show } from '../io.ts';
import { JsonNumber, type JsonObject, type JsonValue } from '../json.ts';
import type { AdapterTensors } from './tensors.ts';

export const configName = 'adapter_config.json';
export const tensorsName = 'adapter_model.safetensors';

export interface AdapterConfig {
  /** PEFT's list of module names; null where it is a regular expression or absent. */
  readonly targetModules: readonly string[] | null;
  readonly rankOf: (module: string) => number;
  readonly alphaOf: (module: string) => number;
  readonly rsLoraOf: (module: string) => boolean;
  /** Of the sparse format; null in a PEFT folder. */
  readonly kinds: ReadonlyMap<string, 'lora' | 'dense'> | null;
}

/** Fields that change nothing in what is stored: where the adapter came from, how it was started, which modules were chosen. */
const informative = new Set([
  'peft_type', 'peft_version', 'auto_mapping', 'base_model_name_or_path', 'revision', 'task_type', 'inference_mode', 'runtime_config',
  'r', 'lora_alpha', 'target_modules', 'exclude_modules', 'layers_to_transform', 'layers_pattern', 'rank_pattern', 'alpha_pattern',
  'use_rslora', 'megatron_core', 'qalora_group_size', 'loftq_config', 'eva_config', 'corda_config', 'lora_ga_config', 'finetable',
]); // prettier-ignore

/** Fields that must have one of these values, with the reason for the refusal of any other. */
const required: readonly (readonly [field: string, allowed: readonly JsonValue[], reason: string])[] = [
  ['use_dora', [false], 'DoRA is not supported; merge the adapter in PEFT, or train one without it'],
  ['lora_dropout', [0], 'dropout is not supported; PEFT ignores it for embeddings, so setting it to 0 changes nothing'],
  ['bias', ['none'], 'trained biases are not supported'],
  ['init_lora_weights', [true, false, 'gaussian'], 'an initialisation that changes the base is not supported'],
];

/**
 * Checks a configuration and gives what the tensors are read with.
 * @throws INVALID_FILE (a field is wrong), UNSUPPORTED (a field asks for something that is not done); both name file, field,
 * what was found and what is allowed
 */
export function parseAdapterConfig(json: JsonObject, file: string): AdapterConfig {
  const fail = (
    code: 'INVALID_FILE' | 'UNSUPPORTED',
    field: string,
    value: JsonValue | undefined,
    allowed: string,
  ): never => {
    const found = value === undefined ? 'missing' : show(value instanceof JsonNumber ? value.value : value);
    throw new FinetableError(code, `${file}: ${field} is ${found}; allowed: ${allowed}`, { file, path: field });
  };
  if (json.get('peft_type') !== 'LORA') fail('UNSUPPORTED', 'peft_type', json.get('peft_type'), '"LORA"');
  for (const [field, allowed, reason] of required) {
    const value = plain(json.get(field));
    if (value !== undefined && value !== null && !allowed.includes(value)) {
      fail('UNSUPPORTED', field, json.get(field), `${allowed.map(show).join(', ')}: ${reason}`);
    }
  }
  for (const [field, value] of json) {
    if (informative.has(field) || required.some(([name]) => name === field) || isEmpty(value)) continue;
    fail('UNSUPPORTED', field, value, 'null, false or empty: what it asks for is not supported');
  }

  const rank = (value: JsonValue | undefined, field: string): number =>
    typeof value === 'number' && value >= 1 ? value : fail('INVALID_FILE', field, value, 'an integer from 1');
  const alpha = (value: JsonValue | undefined, field: string): number => {
    const number = plain(value);
    return typeof number === 'number' && Number.isFinite(number)
      ? number
      : fail('INVALID_FILE', field, value, 'a finite number');
  };
  const flag = (value: JsonValue | undefined, field: string): boolean =>
    typeof value === 'boolean' ? value : fail('INVALID_FILE', field, value, 'true or false');

  const finetable = json.get('finetable');
  const sparse =
    finetable === undefined
      ? null
      : finetable instanceof Map
        ? (finetable as JsonObject)
        : fail('INVALID_FILE', 'finetable', finetable, 'an object');
  const format = sparse?.get('format');
  if (sparse && format !== 1)
    fail('UNSUPPORTED', 'finetable.format', format, '1; a newer version of finetable may read it');

  const pattern = <T>(
    from: JsonObject,
    path: string,
    field: string,
    check: (value: JsonValue, field: string) => T,
  ): ReadonlyMap<string, T> => {
    const value = from.get(field) ?? new Map<string, JsonValue>();
    if (!(value instanceof Map)) return fail('INVALID_FILE', path + field, value, 'an object');
    for (const key of (value as JsonObject).keys()) {
      if (!sparse && !isPlainModule(key)) {
        fail(
          'UNSUPPORTED',
          path + field,
          key,
          'module names of letters, digits, "_", "-" and "."; regular expressions are not supported',
        );
      }
    }
    return new Map([...(value as JsonObject)].map(([key, item]) => [key, check(item, `${path}${field}.${key}`)]));
  };
  const ranks = pattern(json, '', 'rank_pattern', rank);
  const alphas = pattern(json, '', 'alpha_pattern', alpha);
  const rsLoras = pattern(sparse ?? new Map<string, JsonValue>(), 'finetable.', 'rslora_pattern', flag);
  const kinds =
    sparse &&
    pattern(sparse, 'finetable.', 'kinds', (value, field) =>
      value === 'lora' || value === 'dense' ? value : fail('INVALID_FILE', field, value, '"lora" or "dense"'),
    );
  const defaultRank = rank(json.get('r') ?? 8, 'r');
  const defaultAlpha = alpha(json.get('lora_alpha') ?? 8, 'lora_alpha');
  const defaultRsLora = flag(json.get('use_rslora') ?? false, 'use_rslora');

  return {
    targetModules: parseTargets(json.get('target_modules') ?? null),
    rankOf: (module) => match(ranks, module) ?? defaultRank,
    alphaOf: (module) => match(alphas, module) ?? defaultAlpha,
    rsLoraOf: (module) => match(rsLoras, module) ?? defaultRsLora,
    kinds,
  };

  function parseTargets(value: JsonValue): readonly string[] | null {
    if (value === null || typeof value === 'string') return null;
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
    return fail('INVALID_FILE', 'target_modules', value, 'a list of module names, or text');
  }
}

function plain(value: JsonValue | undefined): JsonValue | undefined {
  return value instanceof JsonNumber ? value.value : value;
}

function isEmpty(value: JsonValue): boolean {
  if (value instanceof Map) return value.size === 0;
  return value === null || value === false || value === '' || (Array.isArray(value) && value.length === 0);
}

/** A name that stands for itself, near enough, where PEFT reads it as a regular expression. */
export function isPlainModule(name: string): boolean {
  return /^[\w.-]+$/.test(name);
}

/** PEFT's rule: the key is the whole module path or its end after a dot; the first match wins. */
export function matchesModule(key: string, module: string): boolean {
  return module === key || module.endsWith(`.${key}`);
}

function match<T>(pattern: ReadonlyMap<string, T>, module: string): T | undefined {
  for (const [key, value] of pattern) if (matchesModule(key, module)) return value;
  return undefined;
}

/**
 * The configuration of `adapters`, whose modules are `modules`. Where tables differ, each is named in the pattern, longest
 * name first: PEFT takes the first key that ends the module's path, so `a` would catch `x.a` too.
 * @param extra members that follow PEFT's own
 */
export function adapterConfig(
  adapters: readonly AdapterTensors[],
  modules: readonly string[],
  extra: object = {},
): object {
  const pattern = <T>(values: readonly T[]): ReadonlyMap<string, T> => {
    if (values.every((value) => value === values[0])) return new Map();
    return longestFirst(modules.map((module, i) => [module, values[i]!]));
  };
  const first = adapters[0]!;
  return {
    peft_type: 'LORA',
    task_type: null,
    base_model_name_or_path: null,
    r: first.rank,
    lora_alpha: first.alpha,
    target_modules: modules,
    rank_pattern: pattern(adapters.map(({ rank }) => rank)),
    alpha_pattern: pattern(adapters.map(({ alpha }) => alpha)),
    use_rslora: adapters.every(({ rsLora }) => rsLora),
    use_dora: false,
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    inference_mode: true,
    ...extra,
  };
}

/** `rslora_pattern` of the sparse format: only where tables differ, which PEFT's one `use_rslora` cannot say. */
export function rsLoraPattern(adapters: readonly AdapterTensors[]): ReadonlyMap<string, boolean> | null {
  if (adapters.every(({ rsLora }) => rsLora === adapters[0]!.rsLora)) return null;
  return longestFirst(adapters.map(({ table, rsLora }) => [table, rsLora]));
}

function longestFirst<T>(pairs: (readonly [string, T])[]): ReadonlyMap<string, T> {
  return new Map(pairs.sort(([a], [b]) => b.length - a.length || (a < b ? -1 : 1)));
}
