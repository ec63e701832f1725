/** W of a layer in tfjs variables: what A and B are added to, or what is trained itself. */
import type { LayerVariable, Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { gatherRows } from './gather.ts';
import type { Constraint } from './tfjs-types.ts';
import { layerVariable } from './variable.ts';

export interface Base {
  readonly weights: readonly LayerVariable[];
  /** Whether it has a gradient. */
  readonly trainable: boolean;
  /** `[n]` -> `[n, D]`, new. */
  rows(ids: Tensor1D): Tensor2D;
  /** `[V, D]`, new. */
  table(): Tensor2D;
  /** `[V, D]`, copied. */
  write(w: Tensor): void;
  dispose(): void;
}

export class FloatBase implements Base {
  readonly trainable = true;
  readonly #w: LayerVariable;

  /** @param w `[V, D]`, copied */
  constructor(layerName: string, w: Tensor2D, constraint: Constraint | null) {
    this.#w = layerVariable(layerName, 'embeddings', w, true, constraint);
  }

  get weights(): readonly LayerVariable[] {
    return [this.#w];
  }

  rows(ids: Tensor1D): Tensor2D {
    return gatherRows(this.#w.read() as Tensor2D, ids);
  }

  table(): Tensor2D {
    return this.#w.read().clone() as Tensor2D;
  }

  write(w: Tensor): void {
    this.#w.write(w);
  }

  dispose(): void {
    this.#w.dispose();
  }
}
