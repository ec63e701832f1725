/**
 * Configs of `Embedding` as Keras 2, tf-keras and Keras 3 write them, as options of ours. Theirs are snake case; identifiers are names,
 * `{class_name, config}`, or the same with `module` and `registered_name`; dtypes are names or policies.
 */
import { FinetableError } from '@finetable/core';
import type { EmbeddingOptions } from './options.ts';

type Dict = Readonly<Record<string, unknown>>;

/** Fields that say nothing about the layer. */
const beside = ['customObjects', 'quantizationConfig', 'buildConfig', 'autocast'];
const identifiers = ['embeddingsInitializer', 'embeddingsRegularizer', 'activityRegularizer', 'embeddingsConstraint'];

/** Classes that tfjs spells otherwise. */
const classNames: Readonly<Record<string, string>> = { LecunNormal: 'LeCunNormal', LecunUniform: 'LeCunUniform' };

/**
 * What the layer's constructor takes. A config of ours comes out as it is.
 * @throws INVALID_ARGUMENT for another layer's config; UNSUPPORTED for a dtype that tfjs has not
 */
export function optionsOf(config: Dict): EmbeddingOptions {
  const inner = config.config as Dict | undefined;
  const className = config.class_name ?? config.className;
  if (inner !== undefined && className !== undefined) {
    if (className !== 'Embedding' && className !== 'FinetableEmbedding')
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `this is a config of the layer ${JSON.stringify(className)}; allowed: Embedding`,
      );
    return optionsOf(inner);
  }
  const options: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(config)) {
    const key = name === 'batch_shape' ? 'batchInputShape' : camelCase(name);
    if (value === null || beside.includes(key)) continue;
    if (key === 'dtype') Object.assign(options, dtypeOf(value));
    else options[key] = identifiers.includes(key) ? identifierOf(value) : value;
  }
  return options;
}

function identifierOf(value: unknown): unknown {
  if (typeof value === 'string') return camelCase(value);
  // Objects that tfjs made have methods; nothing is to be mapped in them.
  if (typeof value !== 'object' || value === null || !('class_name' in value)) return value;
  const { class_name: name, config } = value as { class_name: string; config?: Dict };
  const fields = Object.fromEntries(
    Object.entries(config ?? {}).map(([key, field]) => [
      camelCase(key),
      typeof field === 'string' ? camelCase(field) : field,
    ]),
  );
  if (name === 'L1' || name === 'L2') return { className: 'L1L2', config: { l1: 0, l2: 0, ...fields } };
  return { className: classNames[name] ?? name, config: fields };
}

/** A name, or a policy: plain, quantised (`int8`), or `int4/128`, whose groups become a scale a row. */
function dtypeOf(value: unknown): EmbeddingOptions {
  const config = typeof value === 'object' && value !== null ? ((value as { config?: Dict }).config ?? {}) : {};
  const name =
    typeof value === 'string'
      ? value
      : String(config.name ?? `${String(config.mode)}_from_${String(config.source_name)}`);
  const [, mode, dtype] = /^(?:(\w+)(?:\/-?\d+)?_from_)?(\w+)$/.exec(name) ?? [];
  if (dtype !== 'float32' || !(mode === undefined || mode === 'int8' || mode === 'int4'))
    throw new FinetableError(
      'UNSUPPORTED',
      `embedding: dtype ${JSON.stringify(name)}; tfjs computes in float32, with int8 and int4 rows`,
    );
  return { dtype, quantization: mode };
}

const camelCase = (name: string): string => name.replace(/_+(\w)/g, (_, letter: string) => letter.toUpperCase());
