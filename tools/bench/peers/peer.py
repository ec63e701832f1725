"""What the peers' scripts share. `npm run bench:peers` starts each with one JSON argument and waits for a line that says what it is. Then
each line asks for some batches, "first count", and is answered with the milliseconds they took, so that a peer can take turns with ours."""

import json
import os
import statistics
import sys
import time

config = json.loads(sys.argv[1])
# Libraries print; the protocol's own stream must hold nothing else.
_replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def batches():
    """[batches, places] int32, the same ids as ours."""
    import numpy

    return numpy.fromfile(config["ids"], numpy.int32).reshape(config["batches"], -1)


def _timed(work, first, count=1):
    begun = time.perf_counter()
    for batch in range(first, first + count):
        work(batch)
    return (time.perf_counter() - begun) * 1e3


def serve(variants, **versions):
    """`variants`: name -> work(batch). Those that do not run are left out with a word; the fastest serves."""
    times = {}
    failures = []
    for name, work in variants.items():
        try:
            for batch in range(config["warmUp"]):
                work(batch)
            times[name] = statistics.median(_timed(work, batch) for batch in range(config["warmUp"]))
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
    if not times:
        raise SystemExit("; ".join(failures))
    best = min(times, key=times.get)
    hello = {"setting": best, "tried": {name: round(time, 3) for name, time in times.items()}, "failures": failures, "versions": versions}
    print(json.dumps(hello), file=_replies, flush=True)
    for line in sys.stdin:
        print(_timed(variants[best], *map(int, line.split())), file=_replies, flush=True)
