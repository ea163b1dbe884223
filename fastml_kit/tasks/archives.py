"""Archives read without trusting them: no file outside the target, no bomb, nothing half.

``members`` gives the files of a zip or tar archive one after the other, without unpacking it to
disk; ``unpack`` writes them below a folder. Both read the compressed stream through a counter, so
that what it swells to is bounded whatever its headers say.
"""

import bz2
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fastml_kit.errors import RunError

#: What an archive may swell to: Speech Commands, the largest that a task reads, has 105,829 clips
#: of at most one second, 3.4 GB.
MOST_BYTES, MOST_FILES = 8 * 2**30, 500_000
CHUNK = 2**20
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def members(
    path: Path,
    *,
    wanted: Callable[[str], bool] | None = None,
    most_bytes: int = MOST_BYTES,
    most_files: int = MOST_FILES,
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file in the archive at `path`, or of those `wanted`.

    Raises:
        RunError: it is damaged or truncated; it holds a path that leads out of it, a link or a
            device; or it swells to more than `most_bytes` or `most_files`. Files that stand before
            what is wrong have been yielded by then.
    """
    limit = _Limit(path, most_bytes, most_files)
    with _read(path):
        if zipfile.is_zipfile(path):
            yield from _zip_members(path, wanted, limit)
        else:
            yield from _tar_members(path, wanted, limit)


def unpack(
    path: Path,
    target: Path,
    *,
    wanted: Callable[[str], bool] | None = None,
    most_bytes: int = MOST_BYTES,
    most_files: int = MOST_FILES,
) -> Path:
    """Write the files of the archive at `path` into the new folder `target`, all or none.

    Returns `target`; a folder that exists is kept as it is. Raises as `members` does.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        found = members(path, wanted=wanted, most_bytes=most_bytes, most_files=most_files)
        for name, content in found:
            file = made / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        made.chmod(0o755)
        try:
            made.rename(target)
        except OSError:
            if not target.exists():  # if it does, another process was faster
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def check(path: Path, name: str) -> None:
    """Refuse a web page, and an archive (by its `name`) that does not read to its end.

    Raises:
        RunError: it is one of these.
    """
    with path.open("rb") as file:
        begin = file.read(512).lstrip().lower()
    if begin.startswith((b"<!doctype html", b"<html")):
        raise RunError(f"a web page came instead of {name}")
    if name.endswith(SUFFIXES):
        for _ in members(path):
            pass


class _Limit:
    """Counts what an archive swells to."""

    def __init__(self, path: Path, most_bytes: int, most_files: int) -> None:
        self.path, self.bytes, self.files = path, most_bytes, most_files

    def spend(self, count: int, *, files: int = 0) -> None:
        self.bytes -= count
        self.files -= files
        if self.bytes < 0 or self.files < 0:
            raise RunError(f"{self.path.name} swells to more than it may; it is not read")


class _Counted(io.RawIOBase):
    """A stream that counts what is read of it against a limit."""

    def __init__(self, stream: IO[bytes], limit: _Limit) -> None:
        self.stream, self.limit = stream, limit

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(size)
        self.limit.spend(len(content))
        return content


@contextmanager
def _read(path: Path) -> Iterator[None]:
    """Tell errors of the libraries below apart: an archive is damaged, or there is none."""
    try:
        yield
    except DAMAGE as error:
        raise RunError(f"{path.name} is damaged or truncated: {error}") from error
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile) or error.errno is None:  # bz2 knows no better
            raise RunError(f"{path.name} is damaged or truncated: {error}") from error
        raise


def _zip_members(
    path: Path, wanted: Callable[[str], bool] | None, limit: _Limit
) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:  # a zip says all this in front; reading holds it to that
            _inside(path, entry.filename)
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise RunError(f"{path.name} holds a link, {entry.filename!r}; it is not read")
            limit.spend(entry.file_size, files=1)
        for entry in entries:
            if not entry.is_dir() and (wanted is None or wanted(entry.filename)):
                yield entry.filename, archive.read(entry)


def _tar_members(
    path: Path, wanted: Callable[[str], bool] | None, limit: _Limit
) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        begin = file.read(6)
    opener = next((open_ for magic, open_ in OPENERS.items() if begin.startswith(magic)), open)
    with opener(path, "rb") as raw:
        stream = _Counted(raw, limit)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                _inside(path, member.name)
                if not (member.isfile() or member.isdir()):
                    raise RunError(f"{path.name} holds a link or device, {member.name!r}")
                limit.spend(0, files=1)
                content = archive.extractfile(member)
                if content is not None and (wanted is None or wanted(member.name)):
                    if member.size > limit.bytes + CHUNK:
                        limit.spend(member.size)
                    yield member.name, content.read()
        while stream.read(CHUNK):  # behind the last member stands the checksum
            pass


def _inside(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        raise RunError(f"{path.name} holds {name!r}, which leads out of it; it is not read")
