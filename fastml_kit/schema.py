"""What a set of parameters is, and how values become one: names, types and bounds are checked.

A refusal is one line that names the parameter, the value, what is allowed, and the nearest name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from fastml_kit.errors import BadRequest, nearest, unknown_name


class Parameters(BaseModel):
    """Base of all parameter sets: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    runs_dir: str = Field(
        "runs", min_length=1, description="folder of all runs; relative to the project's root"
    )

    def settled(self) -> Self:
        """Return the same with what was left open settled, as far as this machine decides it."""
        return self

    def own(self) -> dict[str, Any]:
        """Return the values that results depend on: all but ``runs_dir``."""
        return self.model_dump(exclude={"runs_dir"})

    def files(self) -> dict[str, Path]:
        """Return the files that parameters name: what counts is what is in them."""
        return {}

    def look(self) -> None:
        """Look into those files before anything starts.

        Raises:
            BadRequest: one of them is not what it must be.
        """


P = TypeVar("P", bound=Parameters)


def check(schema: type[P], values: Mapping[str, Any]) -> P:
    """Return `values` as a set of parameters, defaults filled in.

    Raises:
        BadRequest: a name is unknown, or a value has the wrong type or is out of range; one line
            that names the field, the value, what is allowed, and the nearest name.
    """
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        raise _refusal(schema, error.errors()[0]) from error


def read_value(text: str) -> Any:
    """Read a value given as text, as YAML does: 4, 10.0, true, [xc7, ecp5], mlp.

    Raises:
        BadRequest: it is no YAML.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadRequest(
            f"{text!r} cannot be read as a value (YAML): {_one_line(error)}"
        ) from error


def allowed(schema: type[Parameters], name: str) -> str:
    """Say what `name` may be: ``a whole number from 2 to 8 (width of the weights, in bits)``."""
    field = schema.model_fields[name]
    kind = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        list[str]: "a list of texts, such as [xc7, ecp5]",
    }[field.annotation]  # type: ignore[index]
    bounds = [getattr(limit, side, None) for side in ("ge", "le") for limit in field.metadata]
    low, high = ([bound for bound in bounds if bound is not None] + [None, None])[:2]
    span = "" if low is None else f" from {low} to {high}"
    return f"{kind}{span} ({field.description})"


def unknown_parameter(schema: type[Parameters], name: str) -> BadRequest:
    """Return the refusal of a parameter that `schema` does not have."""
    names = list(schema.model_fields)
    return BadRequest(
        f"no parameter {name!r}.{nearest(name, names)} Parameters: {', '.join(sorted(names))}."
    )


def one_of(kind: str, name: str, choices: Sequence[str]) -> str:
    """Return `name` if it is one of `choices`: what a validator of a parameter does.

    Raises:
        BadRequest: it is not; names the nearest.
    """
    if name not in choices:
        raise unknown_name(kind, name, choices)
    return name


def _refusal(schema: type[Parameters], error: ErrorDetails) -> BadRequest:
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return unknown_parameter(schema, name)
    where = "".join(f"[{part}]" for part in error["loc"][1:])
    return BadRequest(f"{name}{where}={error['input']!r}; it must be {allowed(schema, name)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
