"""One notebook through papermill, told honestly.

papermill marks cells completed that never ran, saves notebooks that a full disk cuts in half, and
takes ``sys.exit(0)`` for success. Here a cell is completed when it was, a notebook is saved whole
or not at all, and all that keeps a notebook from its end is a failure with a cell and a reason.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.execute import execute_notebook

from fastml_kit.errors import StageFailed
from fastml_kit.files import write_whole
from fastml_kit.runner.kernel import guarded_kernel
from fastml_kit.runner.log import Log

#: Called before each code cell with its number from 1, how many there are, and its text.
OnCell = Callable[[int, int, str], None]

SAVE_EVERY_S = 5.0
KERNEL_START_S = 120
IOPUB_TIMEOUT_S = 60  # a busy machine is no failure
#: What a cell may print. A loop that prints must not fill memory and disk.
PRINT_LIMIT = 1_000_000


class CellFailed(StageFailed):
    """A code cell did not reach its end. `cell` counts code cells from 1, as ``In [cell]`` does."""

    def __init__(self, reason: str, cell: int) -> None:
        super().__init__(f"cell {cell}: {reason}")
        self.reason, self.cell = reason, cell


class Execution:
    """The execution of one notebook; `notebook` is its state, at any moment."""

    def __init__(self, source: Path, target: Path) -> None:
        """Read the notebook `source`; states of it will be saved as `target`.

        Raises:
            StageFailed: it is missing, no notebook, or not in Python.
        """
        self.source, self.target = source, target
        try:
            self.notebook = nbformat.read(source, as_version=4)
        except (OSError, ValueError, AttributeError, nbformat.ValidationError) as error:
            raise StageFailed(f"{source} is no notebook that can be read: {error}") from error
        language = self.notebook.metadata.get("kernelspec", {}).get("language", "python")
        if language != "python":
            raise StageFailed(f"{source} is a notebook in {language}; the kit runs Python")

    def run(
        self,
        parameters: Mapping[str, Any],
        *,
        env: Mapping[str, str],
        cell_timeout_s: int,
        log: Log,
        on_cell: OnCell,
    ) -> None:
        """Run all cells in a fresh kernel, with `parameters` put after the parameters cell.

        Raises:
            CellFailed: a cell failed, timed out, left the kernel, or the kernel died in it.
            StageFailed: the kernel did not start.
            OSError: the notebook could not be saved.
        """
        execute_notebook(
            self.notebook,
            None,
            dict(parameters),
            engine_name="fastml",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            execution=self,
            env=env,
            cell_timeout_s=cell_timeout_s,
            log=log,
            on_cell=on_cell,
        )

    def text(self) -> str:
        """Return the notebook's state as the text of a file."""
        return nbformat.writes(self.notebook) + "\n"


class _Manager(NotebookExecutionManager):
    """Keeps the state of every cell, and saves it whole."""

    def __init__(self, nb: Any, execution: Execution, on_cell: OnCell) -> None:
        super().__init__(nb, progress_bar=False)
        self.execution, self.on_cell = execution, on_cell
        self.code_cells = [i for i, cell in enumerate(nb.cells) if cell.cell_type == "code"]

    def number(self, index: int) -> int:
        """Return which code cell the cell at `index` is, from 1."""
        return self.code_cells.index(index) + 1

    def save(self, **kwargs: Any) -> None:
        """Save now and then: often enough to look at, too seldom to slow cells down."""
        if (self.now() - self.last_save_time).total_seconds() >= SAVE_EVERY_S:
            self.save_now(durable=False)

    def save_now(self, *, durable: bool) -> None:
        write_whole(self.execution.target, self.execution.text(), durable=durable)
        self.last_save_time = self.now()

    def cell_start(self, cell: Any, cell_index: int = 0, **kwargs: Any) -> None:
        super().cell_start(cell, cell_index, **kwargs)
        if cell.cell_type == "code":
            self.on_cell(self.number(cell_index), len(self.code_cells), cell.source)

    def fail(self, cell: Any, index: int, reason: str) -> CellFailed:
        """Mark a cell as failed for `reason`, in its metadata and, where that is mute, output."""
        self.cell_exception(cell, cell_index=index)
        if not any(output.output_type == "error" for output in cell.outputs):
            cell.outputs.append(
                nbformat.v4.new_output(
                    "error", ename="StageFailed", evalue=reason, traceback=[reason]
                )
            )
        return CellFailed(reason, self.number(index))

    def cell_complete(self, cell: Any, cell_index: int = 0, **kwargs: Any) -> None:
        super().cell_complete(cell, cell_index, **kwargs)
        state = cell.metadata.papermill
        if cell.get("execution_count", 0) is None and state["status"] == self.COMPLETED:
            state["status"] = self.PENDING  # an empty cell, or one that is tagged to be left out

    def notebook_complete(self, **kwargs: Any) -> None:
        """Close the books. Cells that did not run stay pending, and have no number."""
        self.end_time = self.now()
        self.nb.metadata.papermill["end_time"] = self.end_time.isoformat()
        self.nb.metadata.papermill["duration"] = (self.end_time - self.start_time).total_seconds()
        self.save_now(durable=True)


class _Client(PapermillNotebookClient):
    """Runs the cells, and says why one of them did not reach its end."""

    def papermill_execute_cells(self) -> None:
        self.on_cell_executed = self._note_exit
        for index, cell in enumerate(self.nb.cells):
            self.left, self.printed = False, 0
            self.nb_man.cell_start(cell, index)
            try:
                self.execute_cell(cell, index)
                if self.left:
                    raise CellFailed("the kernel left here (exit)", self.nb_man.number(index))
            except BaseException as error:
                self.shutdown_kernel = "immediate"
                failure = self.nb_man.fail(cell, index, self._reason(error))
                if isinstance(error, Exception):
                    raise failure from error
                raise
            finally:
                self.nb_man.cell_complete(cell, index)

    def output(self, outs: Any, msg: Any, display_id: Any, cell_index: int) -> Any:
        """Keep what a cell prints, up to `PRINT_LIMIT` characters."""
        if msg["msg_type"] == "stream":
            room = PRINT_LIMIT - self.printed
            text = msg["content"]["text"]
            self.printed += len(text)
            if room <= 0:
                return None
            if len(text) > room:
                msg["content"]["text"] = f"{text[:room]}\n[cut after {PRINT_LIMIT} characters]\n"
        return super().output(outs, msg, display_id, cell_index)

    def _note_exit(self, execute_reply: Mapping[str, Any], **_: Any) -> None:
        """Notice `exit()`, which ends the kernel but leaves its cell without an error."""
        payload = execute_reply["content"].get("payload", [])
        self.left = any(item.get("source") == "ask_exit" for item in payload)

    def _reason(self, error: BaseException) -> str:
        match error:
            case CellFailed():
                return error.reason
            case CellExecutionError(ename="SystemExit"):
                return f"the kernel left here (sys.exit({error.evalue}))"
            case CellExecutionError():
                return " ".join(f"{error.ename}: {error.evalue}".split())
            case CellTimeoutError():
                return f"it was still running after {self.timeout} s, the limit for one cell"
            case DeadKernelError():
                return "the kernel died (killed, out of memory, or a crash in compiled code)"
            case KeyboardInterrupt():
                return "interrupted"
            case _:
                return f"{type(error).__name__}: {error}"


class _Engine(NBClientEngine):
    """What papermill calls with the parametrized notebook."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        *,
        execution: Execution,
        env: Mapping[str, str],
        cell_timeout_s: int,
        log: Log,
        on_cell: OnCell,
        **_: Any,
    ) -> Any:
        execution.notebook = nb
        # No paths of this machine in a notebook that will be shown to others.
        nb.metadata.papermill.update(input_path=execution.source.name, output_path=None)
        manager = _Manager(nb, execution, on_cell)
        manager.notebook_start()
        try:
            with guarded_kernel(cwd=execution.source.parent, env=env, log=log) as kernel:
                _Client(
                    manager,
                    km=kernel,
                    timeout=cell_timeout_s,
                    startup_timeout=KERNEL_START_S,
                    iopub_timeout=IOPUB_TIMEOUT_S,
                    stdout_file=log,
                    stderr_file=log,
                ).execute(cleanup_kc=True)
        except BaseException as error:
            with suppress(OSError):  # a full disk must not hide what came before it
                manager.notebook_complete()
            if isinstance(error, RuntimeError):  # Jupyter's, for a kernel that does not answer
                raise StageFailed(f"the kernel failed outside of a cell: {error}") from error
            raise
        manager.notebook_complete()
        return nb


papermill_engines.register("fastml", _Engine)
