"""Published files: downloaded when asked for, resumed when interrupted, held to their checksum.

A `File` is looked for in $FASTML_DATA, then in the cache: the folder ``data`` in $FASTML_CACHE, or
else in the user's own cache folder. Only `download` goes to the network. What arrives lies under a
temporary name until it is known to be right, so that nothing wrong ever replaces something good.
Where nobody publishes a checksum, that of the first download is written down beside the file, and
later uses hold to it.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fastml_kit.errors import BadRequest, RunError
from fastml_kit.files import write_whole
from fastml_kit.tasks.archives import check
from fastml_kit.tasks.transfer import Transfer

PACK, CACHE = "FASTML_DATA", "FASTML_CACHE"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """A published file, known by its `name`: a relative path below $FASTML_DATA or the cache.

    `digest` is ``"sha256:..."`` or ``"md5:..."`` as the publisher states it, or empty. `urls` are
    tried in order; without any, the file has to be put in its place by hand. `size` is in bytes.
    """

    name: str
    digest: str = ""
    urls: tuple[str, ...] = ()
    size: int | None = None


def folder() -> Path:
    """Return the folder that files are downloaded into; it need not exist."""
    import pooch

    root = os.environ.get(CACHE) or pooch.os_cache("fastml_kit")
    return Path(root).expanduser() / "data"


def find(file: File) -> Path | None:
    """Return where `file` lies, in $FASTML_DATA or in the cache, or None; does not look inside."""
    pack = os.environ.get(PACK)
    roots = [Path(pack).expanduser()] if pack else []
    for root in (*roots, folder()):
        if (root / file.name).is_file():
            return root / file.name
    return None


def require(file: File) -> Path:
    """Return where `file` lies, after its checksum was found right.

    Raises:
        BadRequest: it is not here.
        RunError: what is here is not this file, or is damaged.
    """
    path = find(file)
    if path is None:
        way = "download it with `fastml data fetch`, or put it there" if file.urls else "put it"
        raise BadRequest(f"{file.name} is not here: {way} into {folder()} or ${PACK}")
    _verify(file, path)
    return path


def download(file: File, *, progress: bool = False) -> Path:
    """Return where `file` lies, downloading it if it is not here; `progress` shows a bar.

    An interrupted download goes on where it stopped. Of several processes that ask for one file,
    one downloads it and the others wait.

    Raises:
        BadRequest: it cannot be downloaded, only put in place by hand.
        RunError: it cannot be had or written, or what came is not this file; what lay in the
            cache before still does.
    """
    if find(file) is not None:
        return require(file)
    if not file.urls:
        raise BadRequest(f"{file.name} has no address: put it into {folder()} or ${PACK} by hand")
    path = folder() / file.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("another process is downloading %s; waiting for it", file.name)
            lock.acquire()
        try:
            if not path.exists():  # it may have come while this process waited
                _download(file, path, progress)
        finally:
            lock.release()
    except OSError as error:
        raise RunError(
            f"cannot write {file.name} into {path.parent}: {error.strerror or error}. Point "
            f"{CACHE} at a folder that can be written"
        ) from error
    return require(file)


def _download(file: File, path: Path, progress: bool) -> None:
    """Try the addresses of `file` in order, until what came is right and lies at `path`."""
    part = path.with_name(f".{path.name}.part")
    refusals = []
    for url in file.urls:
        transfer = Transfer(url, part, size=file.size, trusted=bool(file.digest))
        try:
            transfer.run(path.name if progress else None)
            try:
                _accept(file, part)
            except RunError:
                if not transfer.resumed:
                    raise
                transfer.run(path.name if progress else None)  # what was here before was no good
                _accept(file, part)
        except RunError as error:
            refusals.append(f"{url}: {error}")
            continue
        part.replace(path)
        transfer.forget()
        known = file.digest or _digest("sha256", path)
        write_whole(_memory(path), f"{known}\n")
        if not file.digest:
            _log.warning("nobody publishes a checksum of %s; what came is %s", file.name, known)
        return
    raise RunError(
        f"cannot download {file.name}. {'; '.join(refusals)}. Without a network, put the file into "
        f"{path.parent} or ${PACK} by hand"
    )


def _accept(file: File, part: Path) -> None:
    """Refuse what came if it is not `file`, and remove it, so that the next try begins anew."""
    try:
        if file.digest and (got := _digest(file.digest.partition(":")[0], part)) != file.digest:
            raise RunError(f"what came has the checksum {got}, published is {file.digest}")
        if not file.digest:
            check(part, file.name)
    except RunError:
        part.unlink()
        raise


def _verify(file: File, path: Path) -> None:
    """Hold the file at `path` to the checksum that is published, or that it came with."""
    known, source = file.digest, "published"
    memory = _memory(folder() / file.name)
    if not known and memory.exists():
        known, source = memory.read_text(encoding="utf-8").strip(), f"remembered in {memory}"
    if known and (got := _digest(known.partition(":")[0], path)) != known:
        raise RunError(
            f"{path} is not {file.name}, or is damaged: its checksum is {got}, {known} is "
            f"{source}. Remove it to have it downloaded again, or put the right file in its place"
        )


def _memory(path: Path) -> Path:
    return path.with_name(f"{path.name}.checksum")


def _digest(algorithm: str, path: Path) -> str:
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
