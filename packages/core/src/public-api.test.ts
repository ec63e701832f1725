import { expect, it } from 'vitest';
import * as core from './index.ts';

it('exports these names', () => {
  expect(Object.keys(core).sort()).toMatchInlineSnapshot(`
    [
      "FinetableError",
      "HeUniformRows",
      "RandomStream",
      "Scratch",
      "alone",
      "bf16ToF32",
      "checkJagged",
      "checkOptionNames",
      "errorCodes",
      "f16ToF32",
      "f32ToBf16",
      "f32ToF16",
      "formatBytes",
      "fromPlainError",
      "isFinetableError",
      "jagged",
      "lowerBound",
      "makePlan",
      "makeSharedPlan",
      "matrix",
      "parseBytes",
      "permutation",
      "philox",
      "planBags",
      "planBuffers",
      "planPlaces",
      "poolings",
      "range",
      "rowBytes",
      "rowDtypes",
      "rowScales",
      "rowsOf",
      "storedRowBytes",
      "tensorDtypeBytes",
      "toPlainError",
      "upperBound",
    ]
  `);
});
