"""The model of examples/intents in PyTorch: which intent does a customer's sentence have?

The mean of the sentence's word vectors and a linear classifier, both trained with AdamW; the table is frozen, carries a LoRA adapter, or is
trained in full. `--lazy` updates only the rows of the batch, as Finetable does; without it the optimiser also moves rows seen earlier, by
their momentum.

    python intents.py --data DATA [--kind frozen|lora|full] [--lazy] [--seeds 1,2,3] [--head-lr 0.01] [--lr 0.001] [--epochs 6] ...

DATA holds numberbatch/{vectors.f16.npy, words.txt} and banking77/{train,test}.csv. Prints one line of JSON for each seed.
"""

import argparse
import csv
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

WORD = re.compile(r"[a-z0-9']+")


@dataclass(frozen=True)
class Settings:
    kind: str = "lora"
    rank: int = 8
    alpha: float = 16.0
    lr: float = 1e-3
    lr_b: float | None = None  # None: as lr; 0: B stays as drawn
    head_lr: float = 0.01
    head_decay: float = 0.0
    head_init: str = "zero"  # or "uniform", nn.Linear's own
    bias: bool = True
    normalise: bool = False  # sentence vectors to unit length
    lazy: bool = False
    epochs: int = 6
    batch: int = 128
    seed: int = 1


@dataclass
class Bags:
    """Sentences as word rows: sentence b is ids[offsets[b]:offsets[b + 1]]."""

    ids: torch.Tensor
    offsets: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, picked: torch.Tensor) -> "Bags":
        starts, lengths = self.offsets[picked], self.offsets[picked + 1] - self.offsets[picked]
        offsets = F.pad(lengths.cumsum(0), (1, 0))
        within = torch.arange(int(offsets[-1])) - offsets[:-1].repeat_interleave(lengths)
        return Bags(self.ids[starts.repeat_interleave(lengths) + within], offsets, self.labels[picked])

    def mean(self, rows: torch.Tensor) -> torch.Tensor:
        """[b, D]; zeros for a sentence without a known word."""
        return F.embedding_bag(self.ids, rows, self.offsets, mode="mean", include_last_offset=True)


def read_data(folder: Path) -> tuple[torch.Tensor, Bags, Bags]:
    """The table, the training and the test sentences. The table keeps only words that occur: without weight decay no other row ever moves."""
    words = (folder / "numberbatch/words.txt").read_text(encoding="utf8").split("\n")
    row_of = {word: row for row, word in enumerate(words)}
    splits = []
    for name in ("train", "test"):
        with open(folder / f"banking77/{name}.csv", newline="", encoding="utf8") as file:
            examples = list(csv.DictReader(file))
        splits.append([([row_of[word] for word in WORD.findall(e["text"].lower()) if word in row_of], e["category"]) for e in examples])
    categories = {name: label for label, name in enumerate(sorted({category for split in splits for _, category in split}))}
    used = sorted({row for split in splits for rows, _ in split for row in rows})
    compact = {row: i for i, row in enumerate(used)}
    table = torch.from_numpy(np.load(folder / "numberbatch/vectors.f16.npy")[used].astype(np.float32))

    def bags(split: list[tuple[list[int], str]]) -> Bags:
        ids = torch.tensor([compact[row] for rows, _ in split for row in rows])
        offsets = torch.tensor([0] + [len(rows) for rows, _ in split]).cumsum(0)
        return Bags(ids, offsets, torch.tensor([categories[category] for _, category in split]))

    return table, bags(splits[0]), bags(splits[1])


class Model(torch.nn.Module):
    def __init__(self, table: torch.Tensor, classes: int, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("table", table)
        if settings.kind == "full":
            self.rows = torch.nn.Parameter(table.clone())
        elif settings.kind == "lora":
            self.rows = torch.nn.Parameter(torch.zeros(len(table), settings.rank))
            self.b = torch.nn.Parameter(torch.randn(settings.rank, table.shape[1]))
        self.head = torch.nn.Linear(table.shape[1], classes, bias=settings.bias)
        if settings.head_init == "zero":
            for parameter in self.head.parameters():
                torch.nn.init.zeros_(parameter)

    def forward(self, bags: Bags) -> torch.Tensor:
        if self.settings.kind == "full":
            vectors = bags.mean(self.rows)
        else:
            vectors = bags.mean(self.table)
            if self.settings.kind == "lora":
                vectors = vectors + self.settings.alpha / self.settings.rank * bags.mean(self.rows) @ self.b
        return self.head(F.normalize(vectors, dim=1) if self.settings.normalise else vectors)


class LazyAdam:
    """Adam on the rows of the batch alone: other rows keep value and moments. Bias correction counts all steps."""

    def __init__(self, rows: torch.nn.Parameter, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self.rows, self.lr, self.betas, self.eps, self.steps = rows, lr, betas, eps, 0
        self.first, self.second = torch.zeros_like(rows), torch.zeros_like(rows)

    @torch.no_grad()
    def step(self, touched: torch.Tensor) -> None:
        self.steps += 1
        grad = self.rows.grad[touched]
        first = self.first[touched].lerp(grad, 1 - self.betas[0])
        second = self.second[touched].lerp(grad * grad, 1 - self.betas[1])
        self.first[touched], self.second[touched] = first, second
        size = (second / (1 - self.betas[1] ** self.steps)).sqrt() + self.eps
        self.rows[touched] -= self.lr / (1 - self.betas[0] ** self.steps) * first / size
        self.rows.grad = None


@torch.no_grad()
def accuracy(model: Model, bags: Bags) -> float:
    return float((model(bags).argmax(1) == bags.labels).float().mean())


def train(table: torch.Tensor, training: Bags, held_out: Bags, settings: Settings) -> Iterator[float]:
    """Yields the accuracy on the held-out sentences after each epoch."""
    torch.manual_seed(settings.seed)
    model = Model(table, int(training.labels.max()) + 1, settings)
    groups = [{"params": list(model.head.parameters()), "lr": settings.head_lr, "weight_decay": settings.head_decay}]
    if settings.kind == "lora":
        groups.append({"params": [model.b], "lr": settings.lr if settings.lr_b is None else settings.lr_b})
    lazy = None
    if settings.kind != "frozen":
        if settings.lazy:
            lazy = LazyAdam(model.rows, settings.lr)
        else:
            groups.append({"params": [model.rows], "lr": settings.lr})
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0)
    for _ in range(settings.epochs):
        for picked in torch.randperm(len(training)).split(settings.batch):
            bags = training.select(picked)
            optimiser.zero_grad()
            F.cross_entropy(model(bags), bags.labels).backward()
            optimiser.step()
            if lazy:
                lazy.step(bags.ids.unique())
        yield accuracy(model, held_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    for field in fields(Settings):
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
        elif field.name != "seed":
            parser.add_argument(flag, type=float if field.default is None else type(field.default), default=field.default)
    options = vars(parser.parse_args())
    folder, seeds = options.pop("data"), options.pop("seeds")

    torch.set_num_threads(1)
    table, training, test = read_data(folder)
    for seed in seeds:
        settings = Settings(**options, seed=seed)
        start = time.perf_counter()
        history = list(train(table, training, test, settings))
        print(json.dumps({"testAccuracy": history, "seconds": time.perf_counter() - start, **asdict(settings)}))


if __name__ == "__main__":
    main()
