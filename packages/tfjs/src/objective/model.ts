/** A model of tfjs layers over looked-up features as an objective. */
import { checkOptionNames, type OptionNames } from '@finetable/core';
import type { Objective } from '@finetable/trainer';
import type { LayersModel, Tensor, Variable } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import type { TensorBatch } from './batch.ts';
import { checkLoss, invalid } from './check.ts';
import { TfjsObjective, type Loss, type TfjsObjectiveOptions } from './objective.ts';

/** How a model of tfjs becomes an objective. */
export type TfjsModelOptions = Partial<Omit<TfjsObjectiveOptions, 'loss' | 'variables'>>;

const names: OptionNames<TfjsModelOptions> = {
  features: true,
  labels: true,
  optimizer: true,
  seed: true,
  learningRate: true,
  weightDecay: true,
};

/**
 * An objective from a model whose inputs are features, `[null, D]` each, in the order of `features` (default: the names of its inputs).
 * Layers get `training: true` in steps; the penalties of regularizers are added to the loss, in evaluations too, as Keras does; its
 * weights are trained where they are trainable, and moving averages are saved and restored with them. The model need not be compiled.
 * @param loss of the predictions, one tensor for each of the model's outputs; see `TfjsObjectiveOptions.loss`
 * @throws INVALID_ARGUMENT for options that are wrong or unknown, or a model that is not built
 */
export function tfjsModel(
  model: LayersModel,
  loss: (predictions: Tensor, batch: TensorBatch, ...others: Tensor[]) => Loss,
  options: TfjsModelOptions = {},
): Objective {
  const where = 'tfjsModel';
  checkOptionNames(where, options, names);
  if (typeof (model as Partial<LayersModel> | null)?.apply !== 'function')
    throw invalid(where, 'allowed: a model, such as tf.sequential(...), and a loss');
  if (!(model.inputs as unknown[] | undefined)?.length)
    throw invalid(where, 'the model is not built; give its first layer an inputShape');
  if (typeof loss !== 'function') throw invalid(where, `loss: found ${typeof loss}; allowed: a function`);
  // A tensor's own name would have a number behind it in the second model of a process.
  const inputNames = model.inputs.map(({ sourceLayer }) => sourceLayer.name);
  const { features = inputNames } = options;
  if (features.length !== model.inputs.length)
    throw invalid(
      where,
      `features ${features.join(', ')}; allowed: one for each of the model's inputs ${inputNames.join(', ')}`,
    );
  // Names of weights count the layers that a process has made; their places do not.
  const weights = model.weights.map(
    (weight, i) => [`${i}.${weight.originalName.split('/').at(-1)!}`, weight.read() as Variable] as const,
  );
  const objective: TfjsObjectiveOptions = {
    ...options,
    features,
    variables: Object.fromEntries(weights),
    loss: (embeddings, batch) => {
      const inputs = features.map((name) => embeddings[name]!);
      const [first, ...others] = [model.apply(inputs, { training: batch.training })].flat() as Tensor[];
      const means = checkLoss(where, loss(first!, batch, ...others));
      return { ...means, loss: model.calculateLosses().reduce((sum, penalty) => tf.add(sum, penalty), means.loss!) };
    },
  };
  return new TfjsObjective(where, objective, (featureDims) => {
    features.forEach((name, i) => {
      const { shape } = model.inputs[i]!;
      if (shape.length === 2 && shape[1] === featureDims[name]) return;
      const found = `[${shape.map(String).join(', ')}]`;
      throw invalid(
        where,
        `input ${inputNames[i]!} has shape ${found}; the vectors of feature "${name}" have [null, ${featureDims[name]}]`,
      );
    });
  });
}
