/**
 * Which datasets of a model's weights are embeddings. Keras has written them in two ways:
 *
 * - weights stores (`.keras`, `.weights.h5`): `<path>/vars/0`, 1, …, where the path is made of attribute and class names (`layers/embedding_1`). Newer
 *   ones have the layer's name as an attribute of `vars`; of the others only the order of the layers in the configuration tells it. Matrix, then
 *   scale, zero point and groups of a quantised one. Factors of LoRA are merged into the matrix as it is written.
 * - whole models and weights in the older `.h5`: `<layer>/…/embeddings`, of Keras 2 `embeddings:0`, and beside it the variables by their names, LoRA's too.
 */
import { basename, dirname } from 'node:path/posix';
import type { Hdf5Dataset, Hdf5File } from './hdf5.ts';

export interface EmbeddingLayer {
  /** As the model names it; where the file does not say, the last part of `path`. */
  readonly name: string;
  /** Where it is in the file. */
  readonly path: string;
  readonly matrix: Hdf5Dataset;
  readonly scale: Hdf5Dataset | undefined;
  readonly zero: Hdf5Dataset | undefined;
  readonly groups: Hdf5Dataset | undefined;
  readonly loraA: Hdf5Dataset | undefined;
  readonly loraB: Hdf5Dataset | undefined;
  /** Of the layer; null where the file has no configuration of it. */
  readonly config: LayerConfig | null;
}

export type LayerConfig = Readonly<Record<string, unknown>>;

interface ConfiguredLayer {
  readonly name: string;
  /** In a weights store. */
  readonly path: string;
  readonly isEmbedding: boolean;
  readonly config: LayerConfig;
}

/** Models within models; a file has no business to nest deeper. */
const deepestModel = 32;

/**
 * Embedding layers by what the configuration calls so, else by a name or path with "embed" in it; where there is none, every layer whose
 * only variable is a matrix.
 * @param config of the model; null where the file has none
 */
export function findEmbeddings(file: Hdf5File, config: unknown): EmbeddingLayer[] {
  const configured = listConfigured(config);
  const sure: EmbeddingLayer[] = [];
  const possible: EmbeddingLayer[] = [];
  for (const matrix of file.datasets.values()) {
    if (matrix.shape.length !== 2) continue;
    const layer = /^embeddings(:\d+)?$/.test(basename(matrix.path))
      ? namedLayer(file, matrix, configured)
      : matrix.path.endsWith('/vars/0')
        ? storedLayer(file, matrix, configured)
        : null;
    if (layer?.sure === true) sure.push(layer.layer);
    else if (layer?.sure === null) possible.push(layer.layer);
  }
  return sure.length > 0 ? sure : possible;
}

/** `sure`: true, false, or null where only its shape speaks for it. */
interface Candidate {
  readonly layer: EmbeddingLayer;
  readonly sure: boolean | null;
}

function namedLayer(file: Hdf5File, matrix: Hdf5Dataset, configured: readonly ConfiguredLayer[]): Candidate {
  const path = dirname(matrix.path);
  const name = basename(path);
  const beside = (variable: string): Hdf5Dataset | undefined => file.datasets.get(`${path}/${variable}`);
  const config = only(configured.filter((layer) => layer.isEmbedding && layer.name === name));
  const layer = {
    ...{ name, path, matrix, config: config?.config ?? null },
    ...{ scale: beside('embeddings_scale'), zero: beside('embeddings_zero'), groups: beside('g_idx') },
    ...{ loraA: beside('lora_embeddings_a'), loraB: beside('lora_embeddings_b') },
  };
  return { layer, sure: true };
}

function storedLayer(file: Hdf5File, matrix: Hdf5Dataset, configured: readonly ConfiguredLayer[]): Candidate {
  const vars = dirname(matrix.path);
  const path = dirname(vars);
  const told = file.attribute(vars, 'name');
  const named = configured.filter((layer) => (told === undefined ? layer.path === path : layer.name === told));
  const config = only(named) ?? only(named.filter((layer) => layer.path === path));
  const name = told ?? config?.name ?? basename(path);
  const beside = (index: number): Hdf5Dataset | undefined => file.datasets.get(`${vars}/${index}`);
  const layer = {
    ...{ name, path, matrix, config: config?.config ?? null },
    ...{ scale: beside(1), zero: beside(2), groups: beside(3), loraA: undefined, loraB: undefined },
  };
  if (config) return { layer, sure: config.isEmbedding };
  if (/embed/i.test(name) || /embed/i.test(basename(path))) return { layer, sure: true };
  const alone = layer.scale === undefined || matrix.dtype === 'i1';
  return { layer, sure: alone ? null : false };
}

function only<T>(found: readonly T[]): T | undefined {
  return found.length === 1 ? found[0] : undefined;
}

/** The layers of a configuration, with the paths that Keras gives them in a weights store. */
function listConfigured(model: unknown): ConfiguredLayer[] {
  const found: ConfiguredLayer[] = [];
  const visit = (value: unknown, path: string, depth: number): void => {
    const config = fieldOf(value, 'config');
    const layers = fieldOf(config, 'layers');
    if (depth > deepestModel) return;
    if (Array.isArray(layers)) {
      const counts = new Map<string, number>();
      for (const layer of layers) {
        const kind = snakeCase(textOf(fieldOf(layer, 'class_name')));
        const count = counts.get(kind) ?? 0;
        counts.set(kind, count + 1);
        add(layer, `${path}layers/${kind}${count === 0 ? '' : `_${count}`}`, depth);
      }
    }
    const inner = fieldOf(config, 'layer'); // of a wrapper
    if (inner !== undefined) add(inner, `${path}layer`, depth);
  };
  const add = (layer: unknown, path: string, depth: number): void => {
    const config = fieldOf(layer, 'config');
    const name = textOf(fieldOf(config, 'name'));
    if (name !== '')
      found.push({
        ...{ name, path, config: config as LayerConfig },
        isEmbedding:
          /(^|>)Embedding$/.test(textOf(fieldOf(layer, 'class_name'))) ||
          (typeof fieldOf(config, 'input_dim') === 'number' && typeof fieldOf(config, 'output_dim') === 'number'),
      });
    visit(layer, `${path}/`, depth + 1);
  };
  visit(model, '', 0);
  return found;
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** As Keras does: `TokenEmbedding` is `token_embedding`. */
function snakeCase(name: string): string {
  return name
    .replace(/\W+/g, '')
    .replace(/(.)([A-Z][a-z]+)/g, '$1_$2')
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .toLowerCase();
}
