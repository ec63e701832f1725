"""The matrix product that scoring every row takes, and nothing after it: [queries, D] x [D, V]."""

from peer import config, serve

import torch

torch.set_num_threads(config["threads"])
V, D, q = config["rows"], config["dim"], config["queries"]
table = torch.empty(V, D).normal_(std=0.1)
queries = torch.empty(q, D).normal_()
whole = torch.zeros(q, V)


def blocked(rows, by_row):
    scores = torch.zeros((rows, q) if by_row else (q, rows))

    def product(_):
        for first in range(0, V, rows):
            block = table[first : first + rows]
            if by_row:
                torch.mm(block, queries.T, out=scores)
            else:
                torch.mm(queries, block.T, out=scores)

    return product


with torch.inference_mode():
    serve(
        {
            "one product": lambda _: torch.mm(queries, table.T, out=whole),
            **{f"blocks of {rows} rows{', a row of scores per row' if by_row else ''}": blocked(rows, by_row) for rows in (4096, 16384, 65536) for by_row in (False, True)},
        },
        PyTorch=torch.__version__,
    )
