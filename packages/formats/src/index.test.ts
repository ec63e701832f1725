import { expect, test } from 'vitest';
import * as formats from './index.ts';

test('the public names', () => {
  expect(Object.keys(formats).sort()).toMatchInlineSnapshot(`
    [
      "adapterFormat",
      "checkOutput",
      "ioError",
      "isPlainModule",
      "isScales",
      "loadAdapter",
      "loadPeftAdapter",
      "loadSparseAdapter",
      "loraScale",
      "manifestName",
      "matchPattern",
      "openFile",
      "openSafetensors",
      "quantizedTable",
      "readChunks",
      "readNpy",
      "readNpyF32",
      "readNpyHeader",
      "readSafetensorsHeader",
      "readStaticLayout",
      "readTensor",
      "readTensorF32",
      "readWordVectors",
      "recoverFolder",
      "removeFolderAtomic",
      "removeLeftovers",
      "savePeftAdapter",
      "saveSparseAdapter",
      "saveStaticFolder",
      "sha256File",
      "verifyManifest",
      "withSpool",
      "writeFileAtomic",
      "writeFolderAtomic",
      "writeManifest",
      "writeNpy",
      "writeQuantizedTable",
      "writeSafetensors",
      "writeTableBlocks",
    ]
  `);
});
