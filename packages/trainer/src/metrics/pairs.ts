/** Retrieval among the candidates of a whole evaluation: its vectors are kept until all are known. */
import { matrix, type Matrix } from '@finetable/core';
import type { Kernels } from '@finetable/kernels';
import { createTable } from '@finetable/placement';
import type { Outputs, PairOutputs } from './outputs.ts';

interface Kept {
  readonly outputs: Pick<Outputs, 'losses' | 'weights'>;
  readonly queries: Matrix;
  /** `[size] i32`: the candidate of each. */
  readonly own: Int32Array;
  readonly labels: Readonly<Record<string, Int32Array>>;
}

export class PairSearch {
  readonly #kept: Kept[] = [];
  /** Distinct ones. */
  readonly #candidates: Float32Array[] = [];
  readonly #byHash = new Map<number, number[]>();
  #metric: PairOutputs['metric'] = 'cosine';

  /** Keeps copies of a batch's vectors. */
  add({ losses, weights }: Outputs, { queries, candidates, metric }: PairOutputs, labels: Kept['labels']): void {
    this.#metric = metric;
    const own = Int32Array.from({ length: candidates.rows }, (_, i) =>
      this.#indexOf(candidates.data.subarray(i * candidates.cols, (i + 1) * candidates.cols)),
    );
    this.#kept.push({
      outputs: { losses: losses.slice(), weights: weights && weights.slice() },
      queries: matrix(queries.rows, queries.cols, queries.data.slice()),
      own,
      labels,
    });
  }

  /** Batch by batch what was found, the k best of all candidates, exactly. */
  async *found(kernels: Kernels, k: number): AsyncGenerator<{ outputs: Outputs; labels: Kept['labels'] }> {
    const rows = this.#candidates.length;
    if (rows === 0) return;
    const cols = this.#candidates[0]!.length;
    const all = matrix(rows, cols);
    this.#candidates.forEach((vector, i) => all.data.set(vector, i * cols));
    const table = createTable('candidates', all, { kernels });
    try {
      for (const { outputs, queries, own, labels } of this.#kept) {
        const width = Math.min(k, rows);
        const { rows: found } = await table.nearest(queries, width, { metric: this.#metric });
        const relevant = { values: own, offsets: Int32Array.from({ length: own.length + 1 }, (_, i) => i) };
        yield { outputs: { ...outputs, retrieval: { rows, k: width, found, relevant } }, labels };
      }
    } finally {
      table.close();
    }
  }

  #indexOf(vector: Float32Array): number {
    const hash = hashOf(vector);
    const alike = this.#byHash.get(hash) ?? [];
    const known = alike.find((i) => this.#candidates[i]!.every((value, c) => value === vector[c]));
    if (known !== undefined) return known;
    const index = this.#candidates.push(vector.slice()) - 1;
    this.#byHash.set(hash, [...alike, index]);
    return index;
  }
}

/** FNV-1a over words. */
function hashOf(vector: Float32Array): number {
  const words = new Int32Array(vector.buffer, vector.byteOffset, vector.length);
  let hash = 0x811c9dc5;
  for (let i = 0; i < words.length; i++) hash = Math.imul(hash ^ words[i]!, 0x01000193);
  return hash;
}
