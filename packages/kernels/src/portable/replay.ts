/** Steps without gradient on rows in slots, many at once; see skipped.ts for the formulas. */
import { stepNumberCount } from '../form.ts';
import type { ReplayRowsArgs } from '../kernels.ts';
import { sumCount, type SkippedSteps } from '../skipped.ts';
import type { PortableRows } from './rows.ts';
import { applyForm, type Stretch } from './rules.ts';
import { emptyStretch, Row, seekStep } from './update.ts';

export function replayRows(args: ReplayRowsArgs): void {
  const { step, slots, lastSteps } = args;
  const skipped = args.skipped.advance(step);
  const row = new Row(args, skipped.rule);
  const { x } = row;
  const byRow = skipped.form.squares === 'row';
  const part = emptyStretch(byRow ? x.length : 1);
  const noGradient = new Float32Array(part.length);
  for (const slot of slots) {
    if (slot < 0) continue;
    const stepAt = seekStep(lastSteps, slot);
    const { data } = lastSteps as PortableRows;
    const last = data[stepAt]!;
    if (last >= step) continue;
    data[stepAt] = step;
    if (skipped.rests) continue;
    row.read(slot);
    // What shares a divisor: one element, or a row.
    for (let i = 0; i < x.length; i += part.length) {
      [part.w, part.wAt, part.m, part.mAt] = [x.w, x.wAt + i, x.m, x.mAt + i];
      [part.h, part.hAt] = [x.h, byRow ? x.hAt : x.hAt + i];
      replay(skipped, part, last, step, noGradient);
    }
    row.write(slot, step);
  }
}

/** Takes `x` from step `last` to `step`. */
function replay(skipped: SkippedSteps, x: Stretch, last: number, step: number, noGradient: Float32Array): void {
  const { form, numbers, logKept } = skipped;
  let from = last;
  if (!addSums(skipped, x, last)) {
    from = Math.min(step, last + skipped.singleSteps);
    for (let t = last + 1; t <= from; t++) applyForm(form, numbers, t * stepNumberCount, x, noGradient, 0);
  }
  if (from === step) return;
  const kept = Math.exp(logKept[step]! - logKept[from]!);
  const momentum = form.keepMomentum ** (step - from);
  for (let i = 0; i < x.length; i++) {
    x.w[x.wAt + i]! *= kept;
    if (form.momentum) x.m[x.mAt + i]! *= momentum;
  }
  if (form.keepSquares === 1) return;
  const squares = form.keepSquares ** (step - from);
  for (let i = 0; i < (form.squares === 'row' ? 1 : x.length); i++) x.h[x.hAt + i]! *= squares;
}

/** All that momentum does to w in the steps after `last`, before w shrinks; false where the sums do not serve. */
function addSums({ form, sums }: SkippedSteps, x: Stretch, last: number): boolean {
  if (!sums) return false;
  const at = last * sumCount;
  let moved = sums[at]!;
  if (form.squares !== 'none') {
    const root = Math.sqrt(x.h[x.hAt]!);
    if (!(root >= sums[at + 4]!) && x.m.subarray(x.mAt, x.mAt + x.length).some((m) => m !== 0)) return false;
    const q = root + sums[at + 1]!;
    const p = sums[at + 1]! / q;
    moved = (moved / q) * (1 - (1 - p) * (p * sums[at + 2]! - p * p * sums[at + 3]!));
  }
  for (let i = 0; i < x.length; i++) x.w[x.wAt + i]! -= x.m[x.mAt + i]! * moved;
  return true;
}
