import { expect, it } from 'vitest';
import * as core from './index.ts';

it('exports these names', () => {
  expect(Object.keys(core).sort()).toMatchInlineSnapshot(`
    [
      "FinetableError",
      "RandomStream",
      "Scratch",
      "checkJagged",
      "errorCodes",
      "f16ToF32",
      "f32ToF16",
      "formatBytes",
      "fromPlainError",
      "isFinetableError",
      "jagged",
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
      "rowDtypeBytes",
      "rowsOf",
      "tensorDtypeBytes",
      "toPlainError",
    ]
  `);
});
