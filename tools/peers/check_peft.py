"""Do adapter folders mean the same to PEFT as to their writer?

Loads the base table into a plain `nn.Embedding` named `embedding`, each folder with `PeftModel.from_pretrained`, looks up the ids and compares
with the rows that the writer expects. Prints one line of JSON for each; exits 1 when a row is further off than the tolerance or not finite, and
with Python's own error when PEFT refuses a folder or leaves part of an adapter unloaded.

    python check_peft.py --base table.safetensors --tensor embeddings --ids 1,5,7 --adapter DIR --expected expected.npy [--adapter ...]
                         [--tolerance 1e-5]

Each --adapter has its --expected, in the same order: [n, D] f32, one row per id in the order given. The tolerance is absolute.
"""

import argparse
import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from safetensors import safe_open


class Table(torch.nn.Module):
    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding.from_pretrained(rows)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids)


def read_base(file: Path, tensor: str) -> torch.Tensor:
    with safe_open(file, framework="pt") as tensors:
        return tensors.get_tensor(tensor).float()


def look_up(base: torch.Tensor, adapter: Path, ids: list[int]) -> np.ndarray:
    # PEFT only warns about a factor that it does not find, and leaves that factor at its random start.
    warnings.filterwarnings("error", message=".*missing adapter keys.*")
    # A model of its own each time: PEFT puts its layer into the one that it is given.
    model = PeftModel.from_pretrained(Table(base), str(adapter)).eval()
    with torch.no_grad():
        return model(torch.tensor(ids)).numpy()


def check(base: torch.Tensor, adapter: Path, ids: list[int], expected_file: Path, tolerance: float) -> bool:
    expected = np.load(expected_file)
    found = look_up(base, adapter, ids)
    if expected.shape != found.shape:
        raise SystemExit(f"{expected_file} is {list(expected.shape)}, the ids give {list(found.shape)}")
    error = float(np.abs(found - expected).max())
    moved = float(np.abs(found - base[ids].numpy()).max())
    passed = error <= tolerance  # false for NaN too
    report = {"adapter": str(adapter), "passed": passed, "maxAbsError": error, "maxAbsDelta": moved, "tolerance": tolerance, "ids": len(ids)}
    # JSON has no word for NaN and infinity.
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in report.items()}
    print(json.dumps(finite))
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--tensor", required=True)
    parser.add_argument("--adapter", type=Path, action="append", required=True)
    parser.add_argument("--ids", type=lambda text: [int(id) for id in text.split(",")], required=True)
    parser.add_argument("--expected", type=Path, action="append", required=True)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    options = parser.parse_args()

    if len(options.adapter) != len(options.expected):
        parser.error(f"{len(options.adapter)} times --adapter and {len(options.expected)} times --expected; each needs the other")
    base = read_base(options.base, options.tensor)
    passed = [
        check(base, adapter, options.ids, expected, options.tolerance)
        for adapter, expected in zip(options.adapter, options.expected)
    ]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
