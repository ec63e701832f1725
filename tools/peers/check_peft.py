"""Does an adapter folder mean the same to PEFT as to its writer?

Loads the base table into a plain `nn.Embedding` named `embedding`, the folder with `PeftModel.from_pretrained`, looks up the ids and compares
with the rows that the writer expects. Prints one line of JSON; exits 1 when a row is further off than the tolerance or not finite, and with
Python's own error when PEFT refuses the folder or leaves part of the adapter unloaded.

    python check_peft.py --base table.safetensors --tensor embeddings --adapter DIR --ids 1,5,7 --expected expected.npy [--tolerance 1e-5]

expected.npy is [n, D] f32, one row per id in the order given. The tolerance is absolute.
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
    model = PeftModel.from_pretrained(Table(base), str(adapter)).eval()
    with torch.no_grad():
        return model(torch.tensor(ids)).numpy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--tensor", required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--ids", type=lambda text: [int(id) for id in text.split(",")], required=True)
    parser.add_argument("--expected", type=Path, required=True)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    options = parser.parse_args()

    base = read_base(options.base, options.tensor)
    expected = np.load(options.expected)
    found = look_up(base, options.adapter, options.ids)
    if expected.shape != found.shape:
        parser.error(f"{options.expected} is {list(expected.shape)}, the ids give {list(found.shape)}")
    error = float(np.abs(found - expected).max())
    moved = float(np.abs(found - base[options.ids].numpy()).max())
    passed = error <= options.tolerance  # false for NaN too
    report = {"passed": passed, "maxAbsError": error, "maxAbsDelta": moved, "tolerance": options.tolerance, "ids": len(options.ids)}
    # JSON has no word for NaN and infinity.
    print(json.dumps({key: value if math.isfinite(value) else None for key, value in report.items()}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
