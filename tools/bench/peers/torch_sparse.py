"""A whole step as one writes it by hand in PyTorch: a frozen table, sparse factors, SparseAdam for A and Adam for B."""

from peer import batches, config, serve

import torch
from torch.nn import functional as F

V, D, r, ids = config["rows"], config["dim"], config["rank"], torch.from_numpy(batches()).long()
table = torch.empty(V, D).normal_(std=0.1)
factors = torch.nn.Embedding(V, r, sparse=True, _weight=torch.zeros(V, r))
b = torch.nn.Parameter(torch.randn(r, D))
scale = 16 / r
gradient = torch.randn(ids.shape[1], D) * 1e-3
optimizers = [torch.optim.SparseAdam(factors.parameters(), lr=1e-3), torch.optim.Adam([b], lr=1e-3, fused=True)]


def add(base, pooled, b):
    return torch.addmm(base, pooled, b, alpha=scale)


def variant(add, threads):
    def step(batch):
        torch.set_num_threads(threads)
        places = ids[batch]
        add(F.embedding(places, table), factors(places), b).backward(gradient)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


compiled = torch.compile(add)
# Steps this short can lose more to waking threads than they gain.
some = {f"{threads} thread{'s' if threads > 1 else ''}": threads for threads in sorted({1, config["threads"]})}
variants = {f"{name}, {words}": variant(function, threads) for words, threads in some.items() for name, function in (("eager", add), ("torch.compile", compiled))}
serve(variants, PyTorch=torch.__version__)
