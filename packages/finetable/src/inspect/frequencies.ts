/** How often values occur, in bounded memory. */
import type { FrequencyReport } from './report.ts';

/** Different values that are counted; later ones are not. */
const mostCounted = 1 << 20;

export class Frequencies {
  readonly #counts = new Map<string | number, number>();
  #places = 0;

  add(value: string | number): void {
    this.#places++;
    const count = this.#counts.get(value);
    if (count !== undefined) this.#counts.set(value, count + 1);
    else if (this.#counts.size < mostCounted) this.#counts.set(value, 1);
  }

  /** @param all nothing was left out: every value of the file was added. Null where none was */
  report(all: boolean): FrequencyReport | null {
    if (this.#places === 0) return null;
    const distinct = this.#counts.size;
    // By the power of two at or below the count; a number's leading zeros give it exactly.
    const bins = Array.from({ length: 32 }, () => ({ values: 0, places: 0 }));
    for (const count of this.#counts.values()) {
      const bin = bins[31 - Math.clz32(count)]!;
      bin.values++;
      bin.places += count;
    }
    const histogram = bins.map(({ values, places }, bin) => ({
      ...{ from: 2 ** bin, to: 2 ** (bin + 1) - 1 },
      ...{ values, share: places / this.#places },
    }));
    return {
      places: this.#places,
      distinct,
      complete: distinct < mostCounted,
      distinctEstimate: all ? distinct : this.#estimate(distinct),
      head: this.#head(5),
      histogram: histogram.filter(({ values }) => values > 0),
    };
  }

  /** Chao, "Nonparametric estimation of the number of classes in a population", Scandinavian Journal of Statistics, 1984. */
  #estimate(distinct: number): number {
    let [once, twice] = [0, 0];
    for (const count of this.#counts.values()) {
      if (count === 1) once++;
      else if (count === 2) twice++;
    }
    return Math.round(distinct + (once * (once - 1)) / (2 * (twice + 1)));
  }

  /** Of equally frequent ones the first that came. */
  #head(most: number): { value: string; count: number }[] {
    const head: { value: string | number; count: number }[] = [];
    for (const [value, count] of this.#counts) {
      if (head.length === most && count <= head.at(-1)!.count) continue;
      const at = head.findIndex((other) => other.count < count);
      head.splice(at < 0 ? head.length : at, 0, { value, count });
      head.length = Math.min(head.length, most);
    }
    return head.map(({ value, count }) => ({ value: String(value), count }));
  }
}
