"""What a flow is: stages in order, each a notebook with its parameters, inputs and tools.

The tables themselves are in `flow`.
"""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastml_kit import schema
from fastml_kit.errors import BadRequest, unknown_name
from fastml_kit.schema import Parameters

#: The folder that holds ``notebooks/`` and ``fastml_kit/``.
PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class StageSpec:
    """One stage: a notebook, what it may be asked for, and what its result depends on.

    A stage on a `way` is part of a run only where the parameter `flow` names that way, or both.
    """

    name: str
    notebook: str  # below the flow's folder of notebooks, without .ipynb
    parameters: type[Parameters]
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # stage -> file patterns
    tools: tuple[str, ...] = ()  # whose versions are part of the digest
    cell_timeout_s: int = 600
    way: str | None = None


@dataclass(frozen=True)
class Flow:
    """Stages in the order they run, and others that stand alone.

    `program` is the module that runs this flow from a command line; a notebook that lacks an
    earlier stage starts it. `other` is the flow for models that the user brings.
    """

    stages: tuple[StageSpec, ...]
    others: tuple[StageSpec, ...] = ()
    parameters: type[Parameters] = Parameters
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notebooks: Path = PROJECT / "notebooks"
    program: str = "fastml_kit.cli"
    other: "Flow | None" = None

    def serving(self, values: Mapping[str, Any], stage: str | None = None) -> "Flow":
        """Return this flow or the `other` one, whichever `values` are for.

        `values` may be those that a user gave, those that a notebook defines, or all of a run's.
        What they leave open is settled by `stage`, if only the other flow has it.
        """
        if self.other is None:
            return self
        brought = values.get("graph") or values.get("keras")
        its_own = "graph" in values and "task" not in values
        return self.other if brought or its_own or self.lacks(stage) else self

    def lacks(self, stage: str | None) -> bool:
        """Tell whether only the `other` flow has a stage of this name."""
        if stage is None or self.other is None:
            return False
        has = [any(_answers(spec, stage) for spec in flow.specs) for flow in (self, self.other)]
        return has == [False, True]

    def along(self, values: Mapping[str, Any]) -> "Flow":
        """Return this flow with the stages, and inputs, that lie on the way that `values` take.

        Those on the other way stand among `others`: they are made only when asked for by name.
        """
        if "flow" not in self.parameters.model_fields:
            return self
        asked = values.get("flow", self.parameters.model_fields["flow"].default)
        left = [spec for spec in self.stages if spec.way and asked not in (spec.way, "both")]
        names = {spec.name for spec in left}
        stages = tuple(_without(names, spec) for spec in self.stages if spec not in left)
        return replace(self, stages=stages, others=(*self.others, *left))

    def check_use(self, given: Set[str]) -> None:
        """Refuse a `given` parameter that only a stage on the way not taken would read.

        Raises:
            BadRequest: there is one; names the stage and the way.
        """
        for spec in (spec for spec in self.others if spec.way):
            earlier = (stage for stage in self.needed(spec) if stage != spec)
            known = {name for stage in earlier for name in stage.parameters.model_fields}
            for name in sorted(given & spec.parameters.model_fields.keys() - known):
                raise BadRequest(
                    f"{name} has no effect here: it is for {spec.name}, which this run leaves out; "
                    f"set flow to both or {spec.way}"
                )

    @property
    def specs(self) -> tuple[StageSpec, ...]:
        """All stages, those that stand alone included."""
        return (*self.stages, *self.others)

    def stage(self, name: str) -> StageSpec:
        """Return the stage called `name`, which may also be that of its notebook.

        Raises:
            BadRequest: there is none.
        """
        for spec in self.specs:
            if _answers(spec, name):
                return spec
        raise unknown_name("stage", name, [spec.name for spec in self.specs])

    def path(self, spec: StageSpec) -> Path:
        """Return the file of a stage's notebook."""
        return self.notebooks / f"{spec.notebook}.ipynb"

    def needed(self, spec: StageSpec) -> list[StageSpec]:
        """Return the stages that `spec` is made from, directly or not, and itself, in order."""
        names = {spec.name, *spec.inputs}
        for candidate in reversed(self.stages):
            if candidate.name in names:
                names |= set(candidate.inputs)
        return [other for other in self.specs if other.name in names]

    def after(self, spec: StageSpec) -> StageSpec | None:
        """Return the stage that follows `spec`; after the last and after others, there is none."""
        names = [other.name for other in self.stages]
        place = names.index(spec.name) + 1 if spec.name in names else len(names)
        return self.stages[place] if place < len(names) else None

    def resolve(
        self, given: Mapping[str, Any], *, profile: str = "smoke", preset: str = ""
    ) -> Parameters:
        """Return all parameters: `given` ones, then the profile's, the preset's, the defaults.

        Raises:
            BadRequest: there is no such profile or preset, or a parameter is refused.
        """
        if profile not in self.profiles:
            raise unknown_name("profile", profile, self.profiles)
        values = {**self.preset(preset), **self.profiles[profile], **given}
        return schema.check(self.parameters, values).settled()

    @property
    def presets(self) -> dict[str, Path]:
        """The files of parameters beside the notebooks, by name; a task's own is called as it."""
        return {path.stem: path for path in sorted((self.notebooks / "presets").glob("*.yaml"))}

    def preset(self, name: str) -> dict[str, Any]:
        """Return the parameters of the preset called `name`; without a name, none.

        Raises:
            BadRequest: there is none of that name, or its file is no mapping of parameters.
        """
        if not name:
            return {}
        if name not in self.presets:
            raise unknown_name("preset", name, self.presets)
        found = schema.read_value(self.presets[name].read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise BadRequest(f"{self.presets[name]} holds no parameters, a line NAME: VALUE each")
        return found

    def adopt(self, values: Parameters) -> Parameters:
        """Return the parameters of a run from those of one of its notebooks, `values`.

        Raises:
            BadRequest: one that belongs to the other flow is not at its default.
        """
        given, known = values.model_dump(), self.parameters.model_fields
        for name in given.keys() - known.keys():
            default = type(values).model_fields[name].default
            if given[name] != default:
                raise BadRequest(
                    f"{name}={given[name]!r} has no effect on a model that was brought; leave it "
                    f"at {default!r}"
                )
        return self.resolve({name: given[name] for name in given.keys() & known.keys()})

    def own(self, spec: StageSpec, resolved: Parameters) -> dict[str, Any]:
        """Return those of the `resolved` parameters that `spec` declares, ``runs_dir`` left out."""
        values = resolved.own()
        return {name: values[name] for name in spec.parameters.model_fields if name in values}


def _without(names: Collection[str], spec: StageSpec) -> StageSpec:
    """Return `spec` without inputs from the stages called `names`."""
    kept = {name: files for name, files in spec.inputs.items() if name not in names}
    return replace(spec, inputs=kept)


def _answers(spec: StageSpec, name: str) -> bool:
    """Tell whether `name` is that of a stage or of its notebook."""
    wanted = name.removesuffix(".ipynb").removeprefix("notebooks/")
    return wanted in (spec.name, spec.notebook, spec.notebook.rpartition("/")[2])
