"""FINN designs in RTL: how far estimates hold, beside what is measured, with every output compared.

    .venv/bin/python ci/bench/finn.py [--network digits_mlp ...] [--interval N] [--no-synthesis]
        [--fold-for latency] [--device-share 0.95]

Each network is folded for xc7z020 to the interval asked for, built by FINN, joined, simulated in
Verilator (a steady stream; single samples; stalls on both sides), and mapped by yosys. Cycles and
cells stand beside the estimates of FINN and of the kit, and the ratio of each. The program ends
with 1 if any code of any sample differs. The networks are those of `studies.finn_networks`, the
rows those of `studies.finn_estimates`; keyword spotting took a quarter of an hour with synthesis.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fastml_kit.backends.base import BuildRequest
from fastml_kit.studies import finn_estimates, finn_networks
from fastml_kit.studies.finn_estimates import Measurement


def measure(
    name: str, interval: int | None, folder: Path, *, synthesized: bool, **asked: Any
) -> Measurement:
    """Build, simulate and count one network; `asked` is what else the request says."""
    network, path = finn_networks.get(name), folder / f"{name}.onnx"
    values = network.write(path)
    request = BuildRequest(name=name, interval_cycles=interval or network.interval_cycles, **asked)
    return finn_estimates.measure(path, values, request, folder, synthesized=synthesized)


def show(found: dict[str, Measurement]) -> None:
    """Print a row for each quantity of each network."""
    table = Table(title="Estimates, each with its ratio to what was measured")
    for heading in ("network", "samples", "differ", "quantity", "source", "measured", "FINN",
                    "ratio", "plan", "ratio"):  # fmt: skip
        words = heading in ("network", "quantity", "source")
        table.add_column(heading, justify="left" if words else "right")
    for name, one in found.items():
        samples = one.comparisons["steady"].samples
        first = [name, f"{samples:,}", str(one.mismatches)]
        for row in one.rows:
            table.add_row(*first, row.name, row.source, *row.told())
            first = ["", "", ""]
        table.add_row(*first, f"interval: bound {one.bound_cycles}; latency: analysis of the "
                      f"queues {one.analysis_latency_cycles}", end_section=True)  # fmt: skip
    Console(width=130).print(table)


def main() -> int:
    """Measure the networks asked for; return 1 if a code differs."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    names = list(finn_networks.NETWORKS)
    parser.add_argument("--network", nargs="+", choices=names, default=names)
    parser.add_argument("--interval", type=int, help="cycles, instead of each network's own")
    parser.add_argument("--fold-for", choices=("cost", "latency"), default="cost")
    parser.add_argument("--device-share", type=float, default=1.0, help="of xc7z020, to be filled")
    parser.add_argument("--no-synthesis", action="store_true", help="count no cells")
    asked = parser.parse_args()
    found = {}
    for name in asked.network:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(
                name, asked.interval, Path(folder), synthesized=not asked.no_synthesis,
                fold_for=asked.fold_for, device_share=asked.device_share,
            )  # fmt: skip
            show({name: found[name]})
    show(found)
    return int(any(one.mismatches for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
