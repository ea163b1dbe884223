"""The reference engine as a backend: always here, exact, and the yardstick for the others."""

from pathlib import Path

from fastml_kit.backends.base import BuildPlan, BuildRequest, BuildResult, Stage, reached
from fastml_kit.errors import BadRequest
from fastml_kit.graph import program, ranges, reference


class ReferenceBackend:
    """Runs the graph in NumPy integers; there is nothing to build."""

    name = "reference"

    def plan(self, graph: Path, request: BuildRequest) -> BuildPlan:
        """Read and bound the graph, so that what has no exact integer form is refused here."""
        read = program.read(graph)
        return BuildPlan(self.name, graph, request, facts={"output": ranges.output_spec(read)})

    def build(self, plan: BuildPlan, folder: Path, *, until: Stage) -> BuildResult:
        """Return a result that predicts; nothing is written in `folder`."""
        if reached("rtl", until):
            raise BadRequest("the reference backend writes no RTL; use da4ml")
        graph = program.read(plan.graph)
        return BuildResult(
            plan=plan,
            stage=until,
            folder=folder,
            top="reference",
            predict=lambda values: reference.run(graph, values),
        )
