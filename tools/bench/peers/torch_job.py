"""A job's steps as one writes them by hand in PyTorch: a frozen table, sparse factors, SparseAdam for A and Adam for the rest. The ids of all batches
are tensors before the clock starts; nothing is read, parsed or shuffled."""

from peer import batches, config, serve

import torch
from torch.nn import functional as F

V, D, r, size, kind = (config[name] for name in ("rows", "dim", "rank", "batchSize", "kind"))
table = torch.empty(V, D).normal_(std=0.1)
factors = torch.nn.Embedding(V, r, sparse=True, _weight=torch.zeros(V, r))
b = torch.nn.Parameter(torch.randn(r, D))
head = torch.nn.Linear(D, config["classes"])
dense = [b, *(head.parameters() if kind == "classification" else [])]
optimizers = [torch.optim.SparseAdam(factors.parameters(), lr=1e-3), torch.optim.Adam(dense, lr=1e-3, fused=True)]

# Of each batch: bags of each feature, one below the other, as [examples, ids of a bag].
bags = []
for ids in torch.from_numpy(batches()):
    bags.append([part.reshape(size, -1).long() for part in ids.split([size * width for width in config["widths"]])])
own = torch.arange(size)
log_shares = torch.zeros(V)


def pooled(ids):
    base = F.embedding_bag(ids, table, mode="mean")
    return torch.addmm(base, F.embedding_bag(ids, factors.weight, mode="mean", sparse=True), b)


def classification(text):
    return F.cross_entropy(head(pooled(text)), text[:, 0] % config["classes"])


def contrastive(anchor, positive):
    scores = F.normalize(pooled(anchor)) @ F.normalize(pooled(positive)).T
    return F.cross_entropy(20 * scores, own)


def ranking(history, target):
    rows = target[:, 0]
    scores = pooled(history) @ pooled(target).T - log_shares[rows]
    again = (rows[None, :] == rows[:, None]) & (own[None, :] != own[:, None])
    return F.cross_entropy(scores.masked_fill(again, -1e30), own)


def variant(threads):
    loss = {"classification": classification, "contrastive": contrastive, "ranking": ranking}[kind]

    def step(batch):
        torch.set_num_threads(threads)
        loss(*bags[batch]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


# Steps this short can lose more to waking threads than they gain.
variants = {f"{threads} thread{'s' if threads > 1 else ''}": variant(threads) for threads in sorted({1, config["threads"]})}
serve(variants, PyTorch=torch.__version__)
