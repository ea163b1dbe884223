"""Arrays in .npz files: read without trusting the file, and kept where they are slow to make."""

import hashlib
import logging
import secrets
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import RunError
from fastml_kit.files import sha256
from fastml_kit.tasks import fetch

Arrays = dict[str, NDArray[Any]]
_log = logging.getLogger(__name__)


def read(path: Path, *names: str) -> Arrays:
    """Return the arrays called `names`, or all, of the .npz file at `path`; never Python objects.

    Raises:
        RunError: the file is damaged or no such file, or has no array of such a name.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise RunError(f"{path} is no .npz file")
        with found as file:
            missing = set(names) - set(file.files)
            if missing:
                raise RunError(f"{path} has no {sorted(missing)}; it has {sorted(file.files)}")
            return {name: file[name] for name in names or file.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(f"{path} is damaged or no .npz file: {error}") from error


def key(name: str, files: Iterable[fetch.File], *code: str) -> str:
    """Return a key for `kept`: `name`, and a digest of checksums of `files` and of source files.

    `code` holds the paths of the modules that make the arrays: whoever changes one of them has the
    arrays made anew.
    """
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}\0{file.digest}\0".encode())
    for path in code:
        total.update(f"{sha256(Path(path))}\0".encode())
    return f"{name}-{total.hexdigest()[:16]}"


def kept(key: str, make: Callable[[], Mapping[str, NDArray[Any]]]) -> Arrays:
    """Return what `make` returns, from the cache where it was made before under the same `key`.

    `key` names everything that the arrays depend on: the file's checksum, the settings, a version
    of the code. A cache that cannot be written is left as it is; a damaged file in it is replaced.
    """
    path = fetch.folder().parent / "made" / f"{key}.npz"
    if path.is_file():
        try:
            return read(path)
        except RunError as error:
            _log.warning("%s; it is made anew", error)
    made = dict(make())
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **made)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        _log.info("%s is not kept: %s", key, error)
    return made
