"""Do static embedding models give the same vectors in Python as to their writer?

Loads each folder with the library that its layout belongs to (model2vec where there is a config.json, else sentence-transformers), encodes the
texts and compares with the vectors that the writer expects. Prints one line of JSON; exits 1 when a vector is further off than the tolerance or
not finite, and with Python's own error when a library refuses the folder.

    python check_static.py --texts texts.json --model DIR expected.npy [--model DIR expected.npy ...] [--tolerance 1e-5]

texts.json is a list of texts; expected.npy is [n, D] f32, one row per text. The tolerance is absolute; model2vec gives vectors of f16 models as
f16, so those are compared after rounding the expected ones, with one unit in the last place on top.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np


def encode(folder: Path, texts: list[str]) -> np.ndarray:
    if (folder / "config.json").exists():
        from model2vec import StaticModel

        return StaticModel.from_pretrained(folder).encode(texts)
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(texts)


def error_of(found: np.ndarray, expected: np.ndarray) -> float:
    if found.dtype != np.float16:
        return float(np.abs(found - expected).max())
    rounded = expected.astype(np.float16)
    beyond = np.abs(found.astype(np.float32) - rounded) - np.spacing(np.maximum(np.abs(found), np.abs(rounded))).astype(np.float32)
    return max(0.0, float(beyond.max()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--model", type=Path, nargs=2, action="append", metavar=("DIR", "EXPECTED"), required=True)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    options = parser.parse_args()

    texts = json.loads(options.texts.read_text(encoding="utf8"))
    errors = {}
    for folder, file in options.model:
        expected, found = np.load(file), encode(folder, texts)
        if expected.shape != found.shape:
            parser.error(f"{file} is {list(expected.shape)}, {folder} gives {list(found.shape)}")
        errors[folder.name] = error_of(found, expected)
    passed = all(error <= options.tolerance for error in errors.values())  # false for NaN too
    # JSON has no word for NaN and infinity.
    shown = {name: error if math.isfinite(error) else None for name, error in errors.items()}
    print(json.dumps({"passed": passed, "maxAbsError": shown, "tolerance": options.tolerance, "texts": len(texts)}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
