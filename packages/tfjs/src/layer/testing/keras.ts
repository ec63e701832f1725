/** What `tools/fixtures/keras_embedding.py` wrote: its docstring says what is in it. */
import { readFileSync } from 'node:fs';

type Rows = number[][];
type Cube = number[][][];
export interface Trained {
  readonly losses: number[];
  readonly weights: Rows[];
}
export interface Steps {
  readonly output: Cube;
  readonly loss: number;
  readonly gradients: Rows[];
  readonly dense: Record<'sgd' | 'adam' | 'adagrad', Trained>;
  readonly indexedSlices: Record<'sgd' | 'adam' | 'adagrad', Trained>;
}
export interface SparseCase {
  readonly indices: Rows;
  readonly values: number[];
  readonly denseShape: number[];
}
export interface ConfigCase {
  readonly config: Record<string, unknown>;
  readonly wrapped: Record<string, unknown>;
}
interface Fixture {
  readonly versions: Record<string, string>;
  readonly w: Rows;
  readonly a: Rows;
  readonly b: Rows;
  readonly alpha: number;
  readonly ids: Rows;
  readonly target: Cube;
  readonly rates: Record<'sgd' | 'adam' | 'adagrad', number>;
  readonly plain: Steps;
  readonly lora: Steps;
  readonly loraTable: Rows;
  readonly sparse: {
    readonly input: SparseCase;
    readonly keras3: Cube;
    readonly tfKeras: Cube;
    readonly tfKerasSparse: SparseCase;
    readonly denseIds: Rows;
    readonly tfKerasSparseFromDense: SparseCase;
  };
  readonly ragged: Record<'input', { readonly values: number[]; readonly rowSplits: number[] }> &
    Record<'keras3' | 'tfKeras', { readonly values: Rows; readonly rowSplits: number[] }>;
  readonly mask: {
    readonly ids: Rows;
    readonly mask: boolean[][];
    readonly none: null;
    readonly fractions: Rows;
    readonly fractionsOutput: Cube;
    readonly fractionsMask: boolean[][];
  };
  readonly quantized: Record<
    'int8' | 'int4',
    {
      readonly codes: Rows;
      readonly scales: number[];
      readonly output: Cube;
      readonly loraOutput: Cube;
      readonly config: Record<string, unknown>;
    }
  >;
  readonly penalties: Record<'plain' | 'lora' | 'activity' | 'activityTfKeras', number>;
  readonly constrained: Rows;
  readonly configs: Record<'keras3' | 'tfKeras' | 'keras2', Record<string, ConfigCase>>;
}

export const keras = JSON.parse(readFileSync(new URL('./keras.json', import.meta.url), 'utf8')) as Fixture;
