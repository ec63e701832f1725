/** Shapes of inputs and outputs. */
import type { layers, Shape, SymbolicTensor, Tensor } from '@tensorflow/tfjs';
import { refuse, type CheckedOptions } from './check.ts';
import type { EmbeddingOptions } from './options.ts';

/** Arguments of tfjs' `Layer`. */
export function layerArgs(options: CheckedOptions): ConstructorParameters<typeof layers.Layer>[0] {
  const { name, trainable, inputShape, batchInputShape, batchSize, inputLength, inputDType } = options;
  const lengths = inputLength == null ? [null] : typeof inputLength === 'number' ? [inputLength] : inputLength;
  return {
    ...(name ? { name } : {}),
    trainable: trainable ?? true,
    batchInputShape: [...(batchInputShape ?? [batchSize ?? null, ...(inputShape ?? lengths)])],
    dtype: inputDType ?? 'int32',
  };
}

export function lengthsOf({ inputLength }: EmbeddingOptions): readonly (number | null)[] | null {
  if (inputLength == null) return null;
  return typeof inputLength === 'number' ? [inputLength] : [...inputLength];
}

export function oneOfInputs<T extends Tensor | SymbolicTensor>(inputs: T | T[]): T {
  if (!Array.isArray(inputs)) return inputs;
  if (inputs.length !== 1) refuse(`embedding: ${inputs.length} inputs; allowed: one tensor of ids`);
  return inputs[0]!;
}

export const shapeText = (shape: readonly (number | null | undefined)[]): string =>
  `[${shape.map((n) => n ?? 'null').join(', ')}]`;

/** The input's shape and D. @throws INVALID_ARGUMENT where the input does not fit the lengths */
export function outputShapeOf(
  where: string,
  inputShape: Shape | Shape[],
  lengths: readonly (number | null)[] | null,
  outputDim: number,
): Shape {
  const shape = (Array.isArray(inputShape[0]) ? inputShape[0] : inputShape) as Shape;
  if (lengths === null) return [...shape, outputDim];
  const given = shape.slice(1);
  const agree = (length: number | null, i: number): boolean =>
    length === null || given[i] == null || given[i] === length;
  if (given.length !== lengths.length || !lengths.every(agree))
    refuse(
      `${where}: the input's shape is ${shapeText(shape)}, but inputLength is ${shapeText(lengths)}, the dimensions after the batch`,
      { layer: where },
    );
  return [shape[0] ?? null, ...lengths.map((length, i) => length ?? given[i] ?? null), outputDim];
}
