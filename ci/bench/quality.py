"""What a task's network reaches on its data: median and spread of several seeds, beside float.

    .venv/bin/python ci/bench/quality.py --task magic [--seeds 3] [--out FILE] [--keep FOLDER]

Each seed trains the quantized network and, with ``--twin`` (on unless ``--no-twin``), its float
twin by the same recipe. Sizes and epochs are those of the task's preset in ``notebooks/presets``,
or of ``--preset``; an option overrides them. Progress goes to the standard error, an epoch a line.
The validation part is scored beside the test part: whoever chooses between settings looks at that
one only (``--no-test`` hides the other).

``--out`` writes a record with everything that one needs to repeat it; ``--keep`` saves the weights
after every epoch and the quantized networks at the end. Convolutions train about four times as
fast with TF_ENABLE_ONEDNN_OPTS=1, whose sums round in another order: the record says which it was.
"""

import argparse
import dataclasses
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(variable, "1")

import yaml
from rich.console import Console
from rich.table import Table

from fastml_kit import models, tasks, tools
from fastml_kit.models import recipes, train
from fastml_kit.models.keras2 import keras, save
from fastml_kit.tasks import metrics

PROJECT = Path(__file__).resolve().parents[2]
PRESETS = PROJECT / "notebooks" / "presets"
SIZES = ("width", "weight_bits", "act_bits", "epochs")


def main() -> int:
    """Train all that was asked for, and show it."""
    options = arguments()
    given = yaml.safe_load((PRESETS / f"{options.preset or options.task}.yaml").read_text())
    given |= {name: value for name in SIZES if (value := getattr(options, name)) is not None}
    family = options.model or given["model"]
    data = tasks.load(options.task, options.dataset or given.get("dataset", ""))
    request = models.ModelRequest(
        data.x.shape[1:],
        data.outputs,
        data.input_spec,
        given["width"],
        given["weight_bits"],
        given["act_bits"],
    )
    changes = {name: json.loads(value) for name, value in (p.split("=") for p in options.recipe)}
    recipe = dataclasses.replace(recipes.of(family), **changes)
    wanted = {"quantized": request} | ({"float": request.float_twin()} if options.twin else {})
    rows = []
    for seed in range(options.seed, options.seed + options.seeds):
        row: dict[str, Any] = {"seed": seed}
        for label, asked in wanted.items():
            row[label] = one(family, asked, data, recipe, given["epochs"], seed, options, label)
        rows.append(row)
        if options.out:
            write(options, rows, data, family, request, recipe, given["epochs"], list(wanted))
    show(rows, data, list(wanted), parts_of(options))
    return 0


def one(
    family: str,
    request: models.ModelRequest,
    data: tasks.TaskData,
    recipe: recipes.Recipe,
    epochs: int,
    seed: int,
    options: argparse.Namespace,
    label: str,
) -> dict[str, float]:
    """Train once; return the task's metric on validation and test, and the seconds it took."""
    start = time.perf_counter()
    name = f"{options.task}-{family}-{label}-{seed}"

    def told(epoch: int, logs: dict[str, float]) -> None:
        numbers = " ".join(f"{key} {value:.4f}" for key, value in logs.items())
        spent = time.perf_counter() - start
        print(f"{name} epoch {epoch + 1}/{epochs}: {numbers} {spent:.0f} s", file=sys.stderr)

    callbacks = []
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        path = str(options.keep / f"{name}.epoch.h5")
        callbacks = [keras.callbacks.ModelCheckpoint(path, save_weights_only=True)]
    host = models.host_part(family, request)
    model, _ = train.train(
        family,
        request,
        data,
        epochs=epochs,
        seed=seed,
        recipe=recipe,
        host=host,
        on_epoch=told,
        callbacks=callbacks,
    )
    if options.keep and label == "quantized":
        save(model, options.keep / f"{name}.h5")
    found = {}
    for part in parts_of(options):
        if data.metric in ("roc_auc", "pauc") and len(set(data.select(part)[1].tolist())) < 2:
            continue  # no area without samples of both labels: the validation part of `ad`
        x, _ = data.select(part)
        found[part] = round(metrics.score(data, part, train.predict(model, x, host)), 4)
    return found | {"seconds": round(time.perf_counter() - start, 1)}


def parts_of(options: argparse.Namespace) -> tuple[tasks.base.Part, ...]:
    """Return the parts to be scored."""
    return ("validation", "test") if options.test else ("validation",)


def write(
    options: argparse.Namespace,
    rows: list[dict[str, Any]],
    data: tasks.TaskData,
    family: str,
    request: models.ModelRequest,
    recipe: recipes.Recipe,
    epochs: int,
    labels: list[str],
) -> None:
    """Write all that one needs to repeat the trainings, and what they gave."""
    record = {
        "command": shlex.join(["python", "ci/bench/quality.py", *without_places(sys.argv[1:])]),
        "task": data.name,
        "dataset": data.dataset,
        "synthetic": data.synthetic,
        "source": data.source,
        "metric": data.metric,
        "quality_target": data.quality_target,
        "model": family,
        "width": request.width,
        "weight_bits": request.weight_bits,
        "act_bits": request.act_bits,
        "epochs": epochs,
        "recipe": dataclasses.asdict(recipe),
        "samples": {part: int((data.part == part).sum()) for part in tasks.base.PARTS},
        "versions": tools.versions(("tensorflow", "tf-keras", "qkeras", "numpy")),
        "python": platform.python_version(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "0"),
        "seeds": rows,
        "median": {
            label: {
                part: median(row[label][part] for row in rows)
                for part in rows[0][label]
                if part != "seconds"
            }
            for label in labels
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")


def without_places(words: list[str]) -> list[str]:
    """Return the options of a command line without those that only say where files go."""
    places = {i for i, word in enumerate(words) if word in ("--out", "--keep")}
    return [word for i, word in enumerate(words) if not {i, i - 1} & places]


def show(
    rows: list[dict[str, Any]],
    data: tasks.TaskData,
    labels: list[str],
    parts: tuple[str, ...],
) -> None:
    """Print a line a seed, and the median with the spread."""
    metric = metrics.METRICS[data.metric]
    table = Table(
        title=f"{data.name} ({data.dataset}): {metric.name}, target {data.quality_target}"
    )
    table.add_column("seed")
    columns = [(label, part) for part in parts for label in labels if part in rows[0][label]]
    for label, part in columns:
        table.add_column(f"{label}, {part}", justify="right")
    for row in rows:
        table.add_row(str(row["seed"]), *(f"{row[label][part]:.4f}" for label, part in columns))
    spread = [sorted(row[label][part] for row in rows) for label, part in columns]
    table.add_row("median", *(f"{median(v):.4f} ({v[0]:.4f}-{v[-1]:.4f})" for v in spread))
    Console().print(table)


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--task", required=True, choices=tasks.names())
    parser.add_argument("--dataset", default="", help="one of the task's; the best that is here")
    parser.add_argument("--preset", default="", help="a file in notebooks/presets; the task's")
    parser.add_argument("--model", default="", choices=["", *models.names()])
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    for name in SIZES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    parser.add_argument("--recipe", nargs="*", default=[], metavar="FIELD=VALUE", help="overrides")
    parser.add_argument("--twin", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--test", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, help="file of the record")
    parser.add_argument("--keep", type=Path, help="folder for weights")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
