/**
 * Checks of lookup plans. Plans come from worker threads and other programs; a wrong index would read memory that is not
 * ours, so every index is compared again, in one pass over each array.
 */
import { FinetableError, type LookupPlan } from '@finetable/core';
import type { Implementation } from '../implementation.ts';
import { checkFloats, checkInteger, checkInts, refuse } from './values.ts';

/** Offsets that ascend from 0 to `total`. */
function checkOffsets(kernels: Implementation, where: string, name: string, offsets: Int32Array, total: number): void {
  if (offsets[0] !== 0) refuse(where, name, `must start at 0, found ${offsets[0]}`);
  const at = kernels.firstDescent(offsets);
  if (at >= 0) refuse(where, name, `must ascend, found ${offsets[at]} at ${at} after ${offsets[at - 1]}`);
  const last = offsets[offsets.length - 1]!;
  if (last !== total) refuse(where, name, `must end at the number of places, ${total}, found ${last}`);
}

export function checkIndices(
  kernels: Implementation,
  where: string,
  name: string,
  values: Int32Array,
  low: number,
  limit: number,
): void {
  const at = kernels.firstOutside(values, low, limit);
  if (at >= 0) refuse(where, name, `must be in [${low}, ${limit}), found ${values[at]} at ${at}`);
}

/** Rows of a table or store. @throws ID_OUT_OF_RANGE */
export function checkRows(kernels: Implementation, where: string, name: string, rows: Int32Array, limit: number): void {
  const at = kernels.firstOutside(rows, 0, limit);
  if (at < 0) return;
  const id = rows[at]!;
  throw new FinetableError('ID_OUT_OF_RANGE', `${where}: ${name}[${at}] is ${id}; allowed: 0 to ${limit - 1}`, {
    argument: name,
    index: at,
    id,
    rows: limit,
  });
}

/** What a lookup reads: bags, weights, and each place's row. */
export function checkPlaces(kernels: Implementation, where: string, plan: LookupPlan): void {
  checkInteger(where, 'plan.tableRows', plan.tableRows, 0, 0x7fffffff);
  checkInts(where, 'plan.offsets', plan.offsets);
  checkInts(where, 'plan.placeRows', plan.placeRows);
  const n = plan.placeRows.length;
  checkInts(where, 'plan.placeUnique', plan.placeUnique, n);
  checkInts(where, 'plan.uniqueRows', plan.uniqueRows);
  if (plan.weights !== null) checkFloats(where, 'plan.weights', plan.weights, n);
  checkOffsets(kernels, where, 'plan.offsets', plan.offsets, n);
  checkRows(kernels, where, 'plan.placeRows', plan.placeRows, plan.tableRows);
  checkIndices(kernels, where, 'plan.placeUnique', plan.placeUnique, 0, plan.uniqueRows.length);
  checkRows(kernels, where, 'plan.uniqueRows', plan.uniqueRows, plan.tableRows);
}

/** What a segment sum reads: the places and bags of each unique row. */
export function checkGroups(kernels: Implementation, where: string, plan: LookupPlan): void {
  checkInts(where, 'plan.offsets', plan.offsets);
  checkInts(where, 'plan.uniqueRows', plan.uniqueRows);
  checkInts(where, 'plan.groupPlaces', plan.groupPlaces);
  const n = plan.groupPlaces.length;
  checkInts(where, 'plan.groupBags', plan.groupBags, n);
  checkInts(where, 'plan.groupOffsets', plan.groupOffsets, plan.uniqueRows.length + 1);
  if (plan.weights !== null) checkFloats(where, 'plan.weights', plan.weights, n);
  checkOffsets(kernels, where, 'plan.groupOffsets', plan.groupOffsets, n);
  checkIndices(kernels, where, 'plan.groupPlaces', plan.groupPlaces, 0, n);
  checkIndices(kernels, where, 'plan.groupBags', plan.groupBags, 0, Math.max(0, plan.offsets.length - 1));
}
