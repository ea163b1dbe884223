"""One download over HTTP into a file that grows, and that goes on where it broke off."""

import json
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fastml_kit.errors import RunError
from fastml_kit.files import write_whole

if TYPE_CHECKING:
    import requests

#: How often a line may break without a byte in between, or a server be busy; the seconds before
#: the next try, which grow.
TRIES, PAUSE = 3, 0.5
TIMEOUT = (10, 60)  # seconds: to connect, between two bytes
CHUNK = 2**16
LEAST_FREE = 2**26  # bytes that a download leaves on the disk
MOST = 2**33  # bytes of a file whose size is not known before


class Transfer:
    """A download of `url` into the file `part`, whose first bytes may be there already.

    `size` is that of the whole file in bytes, if it is known. `trusted` says that a checksum will
    decide in the end. Without one, what is there already is only used if the server says that it is
    a part of the same file.
    """

    def __init__(self, url: str, part: Path, *, size: int | None, trusted: bool) -> None:
        self.url, self.part, self.size, self.trusted = url, part, size, trusted
        self.resumed = False
        self._state = part.with_name(f"{part.name}.json")

    def run(self, title: str | None = None) -> None:
        """Download what is missing; `title` shows a bar of that name on standard error.

        Raises:
            RunError: the server refuses, or the line breaks again and again; what came is kept.
            OSError: the disk refuses.
        """
        import requests
        from urllib3.exceptions import HTTPError

        failures, before = 0, -1
        with self._session() as session:
            while True:
                try:
                    self._go_on(session, title)
                except (requests.RequestException, HTTPError) as error:
                    size = self._here()
                    failures = failures + 1 if size <= before else 1
                    before = size
                    if failures >= TRIES:
                        raise RunError(
                            f"the line breaks after {size:,} bytes: {_cause(error)}"
                        ) from error
                    time.sleep(PAUSE * failures)
                else:
                    return

    def forget(self) -> None:
        """Remove what is remembered for going on."""
        self._state.unlink(missing_ok=True)

    def _go_on(self, session: "requests.Session", title: str | None) -> None:
        at, headers = self._beginning()
        with session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            sent = response.headers.get("Content-Range", "")
            beyond = response.status_code == 416 and at > 0
            self.resumed = response.status_code == 206 or beyond
            if beyond and sent == f"bytes */{at}":
                return  # all of it was here
            if response.status_code == 206 and not sent.startswith(f"bytes {at}-"):
                raise RunError(f"the server was asked to go on at {at}, but sends {sent!r}")
            if response.status_code not in (200, 206) and not beyond:
                raise RunError(f"the server answers {response.status_code} {response.reason}")
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise RunError("the server sends a web page instead of the file")
            if not beyond:
                self._receive(response, at if self.resumed else 0, title)
                return
        self.part.unlink()  # it is longer than the file
        self._go_on(session, title)

    def _receive(self, response: "requests.Response", at: int, title: str | None) -> None:
        from tqdm import tqdm

        left = int(response.headers.get("Content-Length", 0))
        if left and self.size not in (None, at + left):
            raise RunError(f"the server has {at + left:,} bytes, published are {self.size:,}")
        if left > shutil.disk_usage(self.part.parent).free - LEAST_FREE:
            raise RunError(f"{left:,} bytes are to come, more than the disk has room for")
        tags = {name: response.headers.get(name, "") for name in ("ETag", "Last-Modified")}
        bar = tqdm(
            desc=title,
            total=at + left if left else None,
            initial=at,
            unit="B",
            unit_scale=True,
            disable=title is None,
        )
        with bar, self.part.open("r+b" if at else "wb") as file:
            file.seek(at)
            file.truncate()
            write_whole(self._state, json.dumps({"url": self.url, **tags}), durable=False)
            # Not iter_content, which drops what it holds of a chunk when the line breaks.
            while chunk := response.raw.read1(CHUNK):
                if file.tell() + len(chunk) > (self.size or MOST):
                    raise RunError(f"more than {self.size or MOST:,} bytes come")
                file.write(chunk)
                bar.update(len(chunk))

    def _beginning(self) -> tuple[int, dict[str, str]]:
        """Return how many bytes are here already, and the headers that ask for the rest."""
        # Bytes are counted and asked for as they lie on the server's disk.
        headers = {"Accept-Encoding": "identity"}
        size = self._here()
        if not size:
            return 0, headers
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            state = {}
        tag = state.get("ETag", "")
        same = tag if tag and not tag.startswith("W/") else state.get("Last-Modified", "")
        if state.get("url") != self.url or not (same or self.trusted):
            return 0, headers
        headers["Range"] = f"bytes={size}-"
        if same:
            headers["If-Range"] = same  # else the server begins anew
        return size, headers

    def _here(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _session(self) -> "requests.Session":
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        busy = Retry(
            TRIES,
            connect=0,
            read=0,
            backoff_factor=PAUSE,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_status=False,
            respect_retry_after_header=False,  # it may name hours
        )
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=busy))
        return session


def _cause(error: Exception) -> str:
    """Return the innermost thing that requests and urllib3 say, without the names of objects."""
    inner = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", inner)).strip() or type(error).__name__
    return re.sub(r"^.*\w\(.*?\): ", "", text.splitlines()[-1])
