"""Damaged ONNX files by the thousand: each must give a result or a typed error in time.

    .venv/bin/python ci/bench/fuzz.py [--files N] [--seed N] [--workers N] [--show NAME]

Half of what is damaged are models of the kit's own; with FASTML_DATA set, published ones are the
other half. Ends with 1 if any file crashes or hangs the import, makes it raise anything but a
typed error, or runs with another result than qonnx's executor. `--show` does one file again,
by the name that the list of offenders gives it, in this process.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(variable, "1")  # before anything that reads them is loaded

from rich.console import Console
from rich.table import Table

from fastml_kit.tests import fuzzing, seedmodels


def main() -> int:
    """Print the table of outcomes and the offenders; return 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds that a file may take")
    parser.add_argument("--show", metavar="NAME")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastml-fuzz-") as folder:
        seeds = seedmodels.seeds(Path(folder))
        if data := os.environ.get("FASTML_DATA"):
            seeds |= seedmodels.oracles(Path(data) / "oracles")
        if options.show:
            path = Path(folder) / "model.onnx"
            path.write_bytes(fuzzing.make(seeds, options.show))
            print(*fuzzing.judge(path), sep=": ")
            return 0
        start = time.monotonic()
        names = fuzzing.names(seeds, options.files, options.seed)
        outcomes = list(fuzzing.fuzz(seeds, names, workers=options.workers, limit=options.limit))
    took = time.monotonic() - start
    table = Table(title=f"{len(outcomes):,} damaged files of {len(seeds)} seeds in {took:.0f} s")
    table.add_column("outcome", no_wrap=True)
    for heading in ("files", "slowest s"):
        table.add_column(heading, justify="right")
    for kind, count in Counter(one.kind for one in outcomes).most_common():
        slowest = max(one.seconds for one in outcomes if one.kind == kind)
        table.add_row(kind, f"{count:,}", f"{slowest:.2f}")
    Console().print(table)
    for one in outcomes:
        if one.kind.endswith("alone"):  # worth a look: the kit takes more than others do
            print(f"{one.file}: {one.kind}: {one.detail}")
    offences = [one for one in outcomes if one.is_offence]
    for one in offences:
        print(f"{one.file}: {one.kind}: {one.detail}")
    return int(bool(offences))


if __name__ == "__main__":
    sys.exit(main())
