"""A kernel of this very interpreter, which does not outlive the process that started it."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from jupyter_core.utils import run_sync

from fastml_kit.runner.log import Log

#: Longest path that a Unix socket may have, less the "-5" that Jupyter appends.
SOCKET_PATH_LIMIT = 100


class ThisInterpreter(AsyncKernelManager):
    """Starts ``sys.executable -m ipykernel_launcher``, whatever kernelspecs are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """ipykernel's own description of this interpreter."""
        return KernelSpec(**get_kernel_dict())


@contextmanager
def guarded_kernel(*, cwd: Path, env: Mapping[str, str], log: Log) -> Iterator[AsyncKernelManager]:
    """Start a kernel and yield its manager; afterwards nothing that it started is left.

    What the kernel's process prints outside of cells goes to `log`.
    The kernel's sockets lie in a folder of their own: no ports to run out of, or to race for.
    """
    folder = Path(tempfile.mkdtemp(prefix="fastml-"))
    manager = ThisInterpreter(kernel_name="python3", connection_file=str(folder / "kernel.json"))
    if len(str(folder / "k")) <= SOCKET_PATH_LIMIT:
        manager.transport, manager.ip = "ipc", str(folder / "k")
    with _guardian(folder) as guard:
        run_sync(manager.start_kernel)(
            cwd=str(cwd),
            env=dict(env),
            stdout=log,
            stderr=log,
            extra_arguments=["--HistoryManager.hist_file=:memory:"],
        )
        # Jupyter makes the kernel the leader of a process group, which its children are born into.
        assert isinstance(manager.provisioner, LocalProvisioner)
        assert manager.provisioner.pid is not None
        guard(manager.provisioner.pid)
        yield manager


@contextmanager
def _guardian(folder: Path) -> Iterator[Callable[[int], None]]:
    """Yield a function that puts a process group under guard; `folder` is guarded from the start.

    When this context ends, or this process dies, the guarded are killed and removed. A shell waits
    at the other end of a pipe; however this process ends, the pipe closes, and the shell acts.
    (ipykernel watches its parent too, but from a thread that compiled code can starve, and it lets
    its children live on.)
    """
    script = 'read -r group && read -r _; [ "$group" ] && kill -s KILL -- "-$group"; rm -rf "$1"'
    shell = subprocess.Popen(
        ["/bin/sh", "-c", script, "fastml-guardian", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal must not reach it before it reaches us
        text=True,
    )

    def guard(group: int) -> None:
        assert shell.stdin is not None
        shell.stdin.write(f"{group}\n")
        shell.stdin.flush()

    try:
        yield guard
    finally:
        shell.communicate()  # closes the pipe, and waits until all is gone
