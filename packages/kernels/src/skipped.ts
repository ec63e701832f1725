/**
 * What the dense optimiser does to a row in steps that give it no gradient, for any number of steps at once.
 *
 * From step t₀ on such a row has m_j = c^k m and h_j = a^k h, k = j - t₀ (c and a keep momentum and squares), and step j is
 *
 *     w = κ_j w - rate_j c^k m / (√h s_j + ε)        s_j = a^(k/2) root_j, κ_j = 1 - decay_j
 *
 * so after step t, with D = Π κ_j and the weights ω_j = rate_j c^k / Π_{i<=j} κ_i,
 *
 *     w' = D (w - m Σ ω_j / (√h s_j + ε))
 *
 * The weights and s_j are the same for every row and element. Only √h differs, and s_j hardly varies where the weights are not
 * small. With y = 1 / s, ȳ its weighted mean, d = y / ȳ - 1, q = √h + ε ȳ and p = ε ȳ / q (0 <= p <= 1):
 *
 *     1 / (√h s + ε) = ȳ / q · (1 + (1 - p) (d - p d² + p² d³ - …))
 *
 * The mean of d is 0. After d³ the series is off by at most p³ d⁴ of the whole, so with μ_n the weighted mean of dⁿ
 *
 *     w' = D (w - m M₀ ȳ / q · (1 - (1 - p) (p μ₂ - p² μ₃)))        where p³ μ₄ <= 1e-8
 *
 * Elsewhere (√h next to ε or below it, and s varying, as with beta2 = 0.98 or in the first steps of a training) steps are made
 * one by one. The sums come from moments M_n = Σ ω_j y_jⁿ, by one recurrence from the newest step backwards:
 *
 *     M_n(t₀) = c a^(-n/2) / κ · (rate root^(-n) + M_n(t₀ + 1))        rate, root and κ of step t₀ + 1
 *
 * What lies `reach` steps back has lost its weight, so older moments are final, and a step works out the last few blocks only.
 */
import { FinetableError } from '@finetable/core';
import { checkRule } from './check/rule.ts';
import { checkNumber } from './check/values.ts';
import { formOf, stepNumberCount, writeStepNumbers, type RuleForm } from './form.ts';
import type { UpdateRule } from './kernels.ts';

/**
 * f32 a step in `sums`: M₀ ȳ (without squares M₀), ε ȳ, μ₂, μ₃, the least √h that they serve, and for steps from
 * `SkippedSteps.recent` on what is left of w, m and h: D, c^k, a^k.
 */
export const sumCount = 8;

const moments = 5;
const tolerance = 1e-8;
// A weight of e^-24, 4e-11, is none.
const negligible = 24;
// Beyond this many steps a momentum decays so slowly that its sums would cost more than they save.
const longestReach = 8192;

/** Steps after which `ratio` to their power is nothing. */
const reachOf = (ratio: number): number =>
  ratio <= 0 ? 1 : ratio < 1 ? Math.ceil(negligible / -Math.log(ratio)) : Infinity;

/**
 * The steps of one training, for `Kernels.replayRows`. All that it holds is a pure function of the rule, the learning rates
 * and the newest step, however that was reached, so a training that goes on from a file meets the same numbers.
 * It takes 52 bytes a step.
 */
export class SkippedSteps {
  readonly rule: UpdateRule;
  readonly form: RuleForm;
  readonly #rateOf: (step: number) => number;
  /** Of the sums. */
  readonly #reach: number;
  readonly #block: number;
  #step = 0;
  /** Rate, decay and root of step t at `3 t`, as `updateRows` uses them. */
  numbers = new Float32Array(0);
  /** Sums of `t₀` below this are final. */
  recent = 0;
  /** Of a row that step t₀ left, at `8 t₀`; 8 numbers each. Valid for the newest step. Null where there are none. */
  sums: Float32Array | null = null;
  /** Σ log κ of steps 1 to t, at t. */
  logKept = new Float64Array(0);
  /**
   * Steps that are made one by one where the sums do not serve. Without L2 decay momentum is nothing after these, and all that
   * is left of the others is that w, m and h shrink.
   */
  singleSteps: number;

  /** @param rateOf the learning rate of a step, 1 for the first; default: the rule's own */
  constructor(rule: UpdateRule, rateOf: (step: number) => number = () => rule.learningRate) {
    checkRule('SkippedSteps', rule);
    this.rule = rule;
    this.form = formOf(rule);
    this.#rateOf = rateOf;
    const { momentum, squares, l2, keepMomentum, keepSquares } = this.form;
    const squared = squares === 'none' ? 1 : keepSquares;
    this.#reach = reachOf(keepMomentum / squared ** ((moments - 1) / 2));
    this.#block = Math.max(64, Math.ceil(this.#reach / 4));
    // SGD's L2 without gradient or momentum shrinks w as decoupled decay does.
    const alone = l2 === 0 || (rule.type === 'sgd' && !momentum);
    this.singleSteps = !alone ? Infinity : momentum ? reachOf(keepMomentum / Math.sqrt(squared)) : 0;
    if (alone && momentum && this.#reach <= longestReach) this.sums = new Float32Array(0);
  }

  /** Whether steps without gradient change nothing. */
  get rests(): boolean {
    return !this.form.momentum && this.rule.weightDecay === 0;
  }

  /** Makes `step` the newest step. Going back is allowed and costs as much as beginning again. */
  advance(step: number): this {
    if (step === this.#step || this.rests) return this;
    if (step < this.#step) [this.#step, this.recent] = [0, 0];
    this.#grow(step);
    for (let t = this.#step + 1; t <= step; t++) this.#readStep(t);
    this.#step = step;
    if (!this.sums) return this;
    for (; this.recent + this.#block + this.#reach <= step; this.recent += this.#block) {
      this.#writeSums(this.sums, this.recent, this.recent + this.#block, this.recent + this.#block + this.#reach);
    }
    this.#writeSums(this.sums, this.recent, step, step);
    return this;
  }

  #grow(step: number): void {
    if ((step + 1) * stepNumberCount <= this.numbers.length) return;
    const steps = Math.max(1024, 2 * step);
    const longer = <T extends Float32Array | Float64Array>(out: T, from: T): T => {
      out.set(from);
      return out;
    };
    try {
      this.numbers = longer(new Float32Array(steps * stepNumberCount), this.numbers);
      this.logKept = longer(new Float64Array(steps), this.logKept);
      if (this.sums) this.sums = longer(new Float32Array(steps * sumCount), this.sums);
    } catch (cause) {
      const sizeBytes = steps * 52;
      throw new FinetableError(
        'OUT_OF_MEMORY',
        `replay to step ${step}: no memory for the numbers of so many steps`,
        { sizeBytes },
        { cause },
      );
    }
  }

  #readStep(t: number): void {
    const learningRate = this.#rateOf(t);
    checkNumber('SkippedSteps', `the learning rate of step ${t}`, learningRate, 0);
    writeStepNumbers(this.rule, learningRate, t, this.numbers, t * stepNumberCount);
    const decay = learningRate * this.rule.weightDecay;
    this.logKept[t] = this.logKept[t - 1]! + Math.log1p(-decay);
    // Such a step forgets w or turns its sign: there is no logarithm to add up.
    if (decay >= 1) [this.singleSteps, this.sums] = [Infinity, null];
  }

  /** Sums of `t₀` in [low, high) over steps up to `newest`. Runs at every step of a training: hence no arrays within. */
  #writeSums(sums: Float32Array, low: number, high: number, newest: number): void {
    const { numbers } = this;
    const { squares, epsilon, keepMomentum: c, keepSquares: a } = this.form;
    const squared = squares !== 'none';
    const [c1, c2, c3, c4] = [c / Math.sqrt(a), c / a, c / a ** 1.5, c / a ** 2];
    let m0 = 0;
    let m1 = 0;
    let m2 = 0;
    let m3 = 0;
    let m4 = 0;
    let kept = 1;
    let momentum = 1;
    let square = 1;
    for (let t0 = newest - 1; t0 >= low; t0--) {
      const rate = numbers[(t0 + 1) * stepNumberCount]!;
      const left = 1 - numbers[(t0 + 1) * stepNumberCount + 1]!;
      const inverse = 1 / left;
      const y = 1 / numbers[(t0 + 1) * stepNumberCount + 2]!;
      kept *= left;
      momentum *= c;
      square *= a;
      m0 = c * inverse * (rate + m0);
      if (squared) {
        m1 = c1 * inverse * (rate * y + m1);
        m2 = c2 * inverse * (rate * y * y + m2);
        m3 = c3 * inverse * (rate * y * y * y + m3);
        m4 = c4 * inverse * (rate * y * y * y * y + m4);
      }
      if (t0 >= high) continue;
      // Without squares, or where all rates are 0.
      const mean = squared && m0 > 0 ? m1 / m0 : 1;
      // Moments of y / ȳ about 0, then about 1.
      const scale = m0 > 0 ? 1 / (m0 * mean * mean) : 0;
      const inverseMean = 1 / mean;
      const r2 = m2 * scale;
      const r3 = m3 * scale * inverseMean;
      const r4 = m4 * scale * inverseMean * inverseMean;
      const fourth = r4 - 4 * r3 + 6 * r2 - 3;
      const centre = epsilon * mean;
      const at = t0 * sumCount;
      sums[at] = m0 * mean;
      sums[at + 1] = centre;
      sums[at + 2] = r2 - 1;
      sums[at + 3] = r3 - 3 * r2 + 2;
      sums[at + 4] = fourth > tolerance ? centre * (Math.cbrt(fourth / tolerance) - 1) : 0;
      sums[at + 5] = kept;
      sums[at + 6] = momentum;
      sums[at + 7] = square;
    }
  }
}
