"""Random QKeras models by the hundred: each exports exactly, or is refused by name.

    .venv/bin/python ci/bench/random_models.py [--models N] [--hls4ml N] [--da4ml N] [--seed N]
                                               [--only SEED]

Every exact model is run on 64 samples (extremes, ties and saturation among them) by Keras, qonnx's
executor, the reference engine and the fast one; the first N that they take also by hls4ml's C
simulation and da4ml's interpreter. Every output code is compared. Ends with 1 if one differs, if a
model raises anything but a typed refusal, or if a model that has no exact form is exported.
Model k is drawn from the seed `--seed` + k; `--only` draws one again and says what comes of it.
"""

import argparse
import logging
import os
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(variable, "1")  # before anything that reads them is loaded
warnings.filterwarnings("ignore", message="The initializer .* is unseeded")
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it wonders at so many models

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fastml_kit import backends, verify
from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import program, ranges
from fastml_kit.models.keras2 import keras
from fastml_kit.tests import agreement, random_models

#: da4ml unrolls everything; above this many multiplications one model takes minutes.
MULTIPLICATIONS = 3000


class Tally:
    """What all models together came to."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.kinds: dict[str, Counter[str]] = defaultdict(Counter)
        self.engines: dict[str, Counter[str]] = defaultdict(Counter)
        self.not_taken: dict[str, Counter[str]] = defaultdict(Counter)
        self.failures: list[str] = []
        self.hopeless = 0  # models drawn with something that has no exact form
        self.distinct: list[int] = []

    def add(self, seed: int, drawn: Any, verdict: agreement.Verdict) -> None:
        """Count one model."""
        self.outcomes[verdict.outcome] += 1
        self.hopeless += bool(drawn.refused)
        for kind in drawn.kinds:
            self.kinds[kind][verdict.outcome] += 1
        if verdict.outcome == "refused":
            reason = agreement.without_names(verdict.detail, drawn.model)
            self.reasons[f"{verdict.stage}: {reason}"] += 1
        if verdict.outcome == "exact":
            self.distinct.append(verdict.distinct)
        if verdict.outcome in ("exact", "failed"):
            for engine, differing in verdict.compared.items():
                self.engines[engine].update(
                    models=1, codes=np.size(verdict.wanted), differing=differing
                )
        if not verdict.sound:
            self.fail(seed, verdict.detail)

    def backend(
        self, name: str, seed: int, model: Any, verdict: agreement.Verdict, folder: Path
    ) -> None:
        """Build the exact `model`, which lies at `verdict.path`, with a backend, and compare."""
        graph = program.read(verdict.path)
        if name == "da4ml" and _multiplications(graph) > MULTIPLICATIONS:
            self.not_taken[name][f"more than {MULTIPLICATIONS:,} multiplications"] += 1
            return
        backend = backends.get(name)
        try:
            with agreement.nothing_else(name):
                plan = backend.plan(verdict.path, backends.BuildRequest())
                predict = backend.build(plan, folder / f"{name}{seed}", until="csim").predict
                assert predict is not None
                got = np.reshape(predict(verdict.x), verdict.wanted.shape)
        except UnsupportedModel as error:
            reason = " ".join(str(error).split())[:110]
            self.not_taken[name][agreement.without_names(reason, model)] += 1
            return
        except agreement.Failure as failure:
            self.fail(seed, str(failure))
            return
        labels = (name, "reference")
        found = verify.compare(got, verdict.wanted, spec=ranges.output_spec(graph), labels=labels)
        self.engines[name].update(models=1, codes=found.codes, differing=found.mismatches)
        if found.mismatches:
            self.fail(seed, str(found))

    def fail(self, seed: int, detail: str) -> None:
        """Note a failure, and say so at once."""
        self.failures.append(f"--only {seed}: {detail}")
        print(self.failures[-1], file=sys.stderr, flush=True)

    def show(self, seconds: float) -> None:
        """Print all tables."""
        console = Console()
        count = sum(self.outcomes.values())
        print(f"{count} random models in {seconds:.0f} s")
        table = Table()
        for heading in ("outcome", "models"):
            table.add_column(heading)
        for outcome, number in self.outcomes.most_common():
            table.add_row(outcome, f"{number}")
        console.print(table)
        print(f"{self.hopeless} were drawn with something that has no exact form")
        table = Table(title="engines, against the reference engine")
        for heading in ("engine", "models", "codes", "differ"):
            table.add_column(heading)
        for engine, found in self.engines.items():
            if not found["models"]:
                continue
            table.add_row(engine, *(f"{found[key]:,}" for key in ("models", "codes", "differing")))
        console.print(table)
        table = Table(title="models that hold a kind of layer or quantizer")
        headings = ("exact", "refused", "failed")
        for heading in ("kind", *headings):
            table.add_column(heading)
        for kind, found in sorted(self.kinds.items()):
            table.add_row(kind, *(f"{found[heading] or ''}" for heading in headings))
        console.print(table)
        for title, reasons in (("refused", self.reasons), *self.not_taken.items()):
            print(f"\n{title}, by reason:")
            for reason, number in reasons.most_common():
                print(f"{number:5d}  {reason}")
        distinct = np.array(self.distinct or [0])
        print(
            f"\ndistinct outputs of an exact model on {random_models.SAMPLES} samples: median "
            f"{np.median(distinct):.0f}, at least 8 in {np.mean(distinct >= 8):.0%} of models, "
            f"one only in {np.mean(distinct < 2):.0%}; peak memory "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
        )
        print(*self.failures, sep="\n")


def _multiplications(graph: program.Program) -> int:
    from fastml_kit.backends import da4ml_trace

    try:
        return da4ml_trace.multiplications(graph, MULTIPLICATIONS)
    except UnsupportedModel:
        return MULTIPLICATIONS + 1


def one(seed: int, folder: Path) -> tuple[random_models.Drawn, agreement.Verdict]:
    """Draw the model of `seed` and judge it; TensorFlow forgets the ones before.

    Every fourth is also compiled by Keras, which takes as long as all the rest.
    """
    keras.backend.clear_session()
    drawn = random_models.draw(Random(seed))
    return drawn, agreement.judge(drawn, folder, predict=seed % 4 == 0)


def main() -> int:
    """Print the tables; return 1 if any model failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--hls4ml", type=int, default=30, help="models for C simulation")
    parser.add_argument("--da4ml", type=int, default=100, help="models for da4ml's interpreter")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="SEED")
    options = parser.parse_args()
    start, tally = time.monotonic(), Tally()
    with tempfile.TemporaryDirectory(prefix="fastml-bench-") as name:
        folder = Path(name)
        if options.only is not None:
            seeds = range(options.only, options.only + 1)
        else:
            seeds = range(options.seed, options.seed + options.models)
        for seed in track(seeds, "models", console=Console(stderr=True), disable=len(seeds) < 2):
            drawn, verdict = one(seed, folder)
            tally.add(seed, drawn, verdict)
            if options.only is not None:
                drawn.model.summary()
                print(agreement.described(drawn.model), verdict, sep="\n")
            if verdict.outcome == "exact":
                for backend, wanted in (("hls4ml", options.hls4ml), ("da4ml", options.da4ml)):
                    if tally.engines[backend]["models"] < wanted:
                        tally.backend(backend, seed, drawn.model, verdict, folder)
    tally.show(time.monotonic() - start)
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main())
