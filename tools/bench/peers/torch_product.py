"""The matrix product that scoring every row takes, and nothing after it: [queries, D] x [D, V]."""

from peer import config, serve

import torch

torch.set_num_threads(config["threads"])
V, D, q = config["rows"], config["dim"], config["queries"]
table = torch.empty(V, D).normal_(std=0.1)
queries = torch.empty(q, D).normal_()
whole = torch.zeros(q, V)


def blocked(rows):
    """Scores stay in cache; [rows, queries] takes half as long as [queries, rows]."""
    scores = torch.zeros(rows, q)

    def product(_):
        for first in range(0, V, rows):
            torch.mm(table[first : first + rows], queries.T, out=scores)

    return product


with torch.inference_mode():
    serve(
        {
            "one product": lambda _: torch.mm(queries, table.T, out=whole),
            **{f"blocks of {rows} rows": blocked(rows) for rows in (4096, 16384, 65536)},
        },
        PyTorch=torch.__version__,
    )
