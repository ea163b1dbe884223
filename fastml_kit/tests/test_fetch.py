"""Fetching: what comes from a server that is rude, slow, wrong or gone, and from a cache shared."""

import hashlib
import http.server
import io
import multiprocessing
import os
import re
import shutil
import tarfile
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from fastml_kit.errors import BadRequest, RunError
from fastml_kit.tasks import archives, fetch, transfer
from fastml_kit.tests.test_cli import fastml

CONTENT = bytes(range(256)) * 400
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; `server.cut` bytes at most at a time, with or without ranges."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        if self.path not in server.files:
            return self.send_error(server.refusal)
        if server.busy:
            server.busy -= 1
            return self.send_error(503)
        content = server.files[self.path]
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        begin, wanted = 0, self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, tag)
        if wanted and server.ranges and same:
            begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {begin}-{last}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", server.kind)
        if server.tagged:
            self.send_header("ETag", tag)
        if server.sized:
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        time.sleep(server.pause)
        end = len(content) if server.cut is None else begin + server.cut
        self.wfile.write(content[begin:end])
        server.go_on.wait(30)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked = {"/file.bin": CONTENT}, []
        server.cut, server.pause, server.busy, server.refusal = None, 0.0, 0, 404
        server.go_on = threading.Event()
        server.go_on.set()
        server.ranges = server.tagged = server.sized = True
        server.kind = "application/octet-stream"
        server.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTML_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTML_DATA", raising=False)
    return tmp_path / "cache" / "data"


def published(server, name="file.bin", digest=SHA256, path="/file.bin", **more):
    return fetch.File(name, digest, (server.address + path,), **more)


def left_behind(cache):
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_fetched_once_and_found_again(server, cache):
    file = published(server, size=len(CONTENT))
    assert fetch.find(file) is None
    with pytest.raises(BadRequest, match=r"file\.bin is not here: download it with `fastml data"):
        fetch.require(file)
    path = fetch.download(file)
    assert path == cache / "file.bin" == fetch.find(file) and path.read_bytes() == CONTENT
    assert fetch.download(file) == fetch.require(file) == path
    assert len(server.asked) == 1
    assert left_behind(cache) == ["file.bin", "file.bin.checksum"]


def test_md5_is_held_to_as_well(server, cache):
    right, wrong = hashlib.md5(CONTENT).hexdigest(), "0" * 32
    with pytest.raises(RunError, match=f"md5:{right}, published is md5:{wrong}"):
        fetch.download(published(server, digest=f"md5:{wrong}"))
    fetch.download(published(server, digest=f"md5:{right}"))


@pytest.mark.parametrize(
    ("path", "change", "digest", "message"),
    [
        ("/missing", {}, SHA256, "the server answers 404 Not Found"),
        ("/missing", {"refusal": 416}, SHA256, "the server answers 416"),
        ("/file.bin", {"busy": 99}, SHA256, "the server answers 503"),
        ("/file.bin", {}, f"sha256:{'0' * 64}", "what came has the checksum sha256:"),
        ("/file.bin", {"kind": "text/html; charset=utf-8"}, "", "sends a web page instead"),
        ("/page", {}, "", r"a web page came instead of file\.bin"),
        ("/file.bin", {"cut": 0}, SHA256, "the line breaks after 0 bytes"),
    ],
)
def test_what_is_wrong_is_refused_and_leaves_nothing(server, cache, path, change, digest, message):
    server.files["/page"] = b"\n<!DOCTYPE HTML><html>please log in"
    vars(server).update(change)
    with pytest.raises(RunError, match=message) as caught:
        fetch.download(published(server, digest=digest, path=path))
    assert server.address in str(caught.value) and "by hand" in str(caught.value)
    assert not (cache / "file.bin").exists() and not (cache / "file.bin.checksum").exists()
    assert not any(
        (cache / name).stat().st_size for name in left_behind(cache) if "json" not in name
    )


def test_a_server_that_is_busy_is_asked_again(server, cache):
    server.busy = 2
    assert fetch.download(published(server)).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_another_address_is_tried_when_one_fails(server, cache):
    file = fetch.File("file.bin", SHA256, (f"{server.address}/gone", f"{server.address}/file.bin"))
    assert fetch.download(file).read_bytes() == CONTENT


def test_a_file_of_another_size_is_refused_before_it_comes(server, cache):
    with pytest.raises(RunError, match="the server has 102,400 bytes, published are 5"):
        fetch.download(published(server, size=5))
    server.sized = False
    with pytest.raises(RunError, match="more than 5 bytes come"):
        fetch.download(published(server, size=5))


def test_a_disk_without_room_is_told_before_it_is_full(server, cache, monkeypatch):
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(RunError, match="102,400 bytes are to come, more than the disk has room"):
        fetch.download(published(server))


def test_an_address_that_nobody_answers_is_told_shortly(server, cache):
    server.shutdown()
    server.server_close()
    with pytest.raises(RunError, match="the line breaks after 0 bytes: Failed to establish"):
        fetch.download(published(server))


def test_a_broken_line_is_taken_up_where_it_broke(server, cache):
    server.cut = 30_000
    assert fetch.download(published(server)).read_bytes() == CONTENT
    assert server.asked == [None, *(f"bytes={at}-" for at in (30_000, 60_000, 90_000))]


def interrupt(server, cache, file, at):
    """Begin a download that ends with the process, so to speak, after `at` bytes."""
    server.cut, tries = at, transfer.TRIES
    transfer.TRIES = 1
    try:
        with pytest.raises(RunError, match=f"the line breaks after {at:,} bytes"):
            fetch.download(file)
    finally:
        transfer.TRIES, server.cut = tries, None
    assert (cache / ".file.bin.part").stat().st_size == at and not (cache / "file.bin").exists()
    server.asked.clear()


@pytest.mark.parametrize("tagged", [True, False])
def test_an_interrupted_download_goes_on_the_next_time(server, cache, tagged):
    server.tagged = tagged
    interrupt(server, cache, published(server), 70_000)
    assert fetch.download(published(server)).read_bytes() == CONTENT
    assert server.asked == ["bytes=70000-"]
    assert left_behind(cache) == ["file.bin", "file.bin.checksum"]


def test_a_killed_process_leaves_what_came_and_no_lock(server, cache):
    server.cut = 70_000
    server.go_on.clear()
    worker = multiprocessing.get_context("fork").Process(
        target=fetch.download, args=(published(server),)
    )
    worker.start()
    part = cache / ".file.bin.part"
    until = time.monotonic() + 30
    while time.monotonic() < until and not (part.exists() and part.stat().st_size > 50_000):
        time.sleep(0.02)
    worker.kill()
    worker.join()
    server.go_on.set()
    server.cut, came = None, part.stat().st_size
    assert 50_000 < came <= 70_000 and not (cache / "file.bin").exists()
    assert fetch.download(published(server)).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={came}-"]


def test_without_checksum_only_a_tag_allows_going_on(server, cache):
    server.tagged = False
    interrupt(server, cache, published(server, digest=""), 70_000)
    fetch.download(published(server, digest=""))
    assert server.asked == [None]


def test_a_server_without_ranges_sends_it_all_again(server, cache):
    server.ranges = False
    interrupt(server, cache, published(server), 70_000)
    assert fetch.download(published(server)).read_bytes() == CONTENT


@pytest.mark.parametrize("tagged", [True, False])
def test_a_file_that_changed_meanwhile_is_not_patched_together(server, cache, tagged):
    server.tagged = tagged
    server.files["/file.bin"] = bytes(len(CONTENT))
    interrupt(server, cache, published(server), 70_000)
    server.files["/file.bin"] = CONTENT
    assert fetch.download(published(server)).read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [0, 7])
def test_a_part_that_is_whole_or_too_long_is_recovered(server, cache, extra):
    interrupt(server, cache, published(server), 70_000)
    (cache / ".file.bin.part").write_bytes(CONTENT + bytes(extra))
    assert fetch.download(published(server)).read_bytes() == CONTENT


def test_a_part_that_is_whole_but_wrong_is_fetched_again(server, cache):
    interrupt(server, cache, published(server), 70_000)
    (cache / ".file.bin.part").write_bytes(CONTENT[::-1])
    assert fetch.download(published(server)).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-", None]


def test_nothing_wrong_replaces_something_good(server, cache):
    good = fetch.download(published(server))
    server.files["/file.bin"] = b"something else"
    assert fetch.download(published(server)) == good and good.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_what_is_damaged_in_the_cache_is_refused_and_kept(server, cache):
    path = fetch.download(published(server))
    path.write_bytes(CONTENT[:-1])
    for use in (fetch.require, fetch.download):
        with pytest.raises(RunError, match=r"is not file\.bin, or is damaged.*is published"):
            use(published(server))
    assert path.read_bytes() == CONTENT[:-1]  # it is the user's to remove


def test_a_checksum_that_nobody_publishes_is_remembered_and_held_to(server, cache, caplog):
    file = published(server, digest="")
    path = fetch.download(file)
    assert SHA256 in caplog.text
    assert fetch.require(file) == path
    path.write_bytes(b"something else")
    with pytest.raises(RunError, match=r"is remembered in .*file\.bin\.checksum"):
        fetch.require(file)


def test_a_copy_in_the_pack_is_used_and_held_to_the_checksum(server, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTML_DATA", str(tmp_path / "pack"))
    path = tmp_path / "pack" / "file.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert fetch.download(published(server)) == path and not server.asked and not cache.exists()
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(RunError, match="is damaged"):
        fetch.require(published(server))


def test_a_file_without_address_is_asked_for_by_hand(cache):
    with pytest.raises(BadRequest, match=r"file\.bin has no address: put it into .*FASTML_DATA"):
        fetch.download(fetch.File("file.bin"))


def _fetch_in_process(file, start, results):
    start.wait()
    results.put(fetch.download(file).read_bytes() == CONTENT)


def test_two_processes_that_fetch_at_once_share_one_download(server, cache):
    server.pause = 0.5
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    arguments = (published(server), start, results)
    workers = [context.Process(target=_fetch_in_process, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    start.set()
    assert [results.get(timeout=60) for _ in workers] == [True] * 3
    for worker in workers:
        worker.join()
    assert len(server.asked) == 1
    assert left_behind(cache) == ["file.bin", "file.bin.checksum"]


@pytest.fixture
def read_only(monkeypatch):
    """A cache that this process cannot write; as root, it stops being root to that end."""
    root = Path(tempfile.mkdtemp(prefix="fastml-read-only-"))
    monkeypatch.setenv("FASTML_CACHE", str(root))
    monkeypatch.delenv("FASTML_DATA", raising=False)
    (root / "data").mkdir()
    (root / "data" / "file.bin").write_bytes(CONTENT)
    fetch.folder()  # imports while that is allowed
    for folder in (root / "data", root):
        folder.chmod(0o555)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    yield root
    if was_root:
        os.seteuid(0)
    for folder in (root, root / "data"):
        folder.chmod(0o755)
    shutil.rmtree(root)


@pytest.mark.parametrize("digest", [SHA256, ""])
def test_a_cache_that_cannot_be_written_can_be_read(read_only, server, digest):
    file = published(server, digest=digest)
    assert fetch.require(file) == fetch.download(file) == read_only / "data" / "file.bin"
    with pytest.raises(RunError, match=r"cannot write new\.bin into .*Point FASTML_CACHE at"):
        fetch.download(published(server, name="new.bin"))
    with pytest.raises(RunError, match="Permission denied"):
        fetch.download(published(server, name="deeper/new.bin"))
    assert not server.asked


# Archives


def make_tar(path, members, mode="w:gz"):
    """Write a tar archive of (name or TarInfo, content)."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


MAKERS = {"tar.gz": make_tar, "zip": make_zip}
FILES = [("a/one.txt", b"one"), ("two.bin", CONTENT)]


@pytest.mark.parametrize("kind", MAKERS)
def test_archives_are_read_and_unpacked(tmp_path, kind):
    path = MAKERS[kind](tmp_path / f"archive.{kind}", FILES)
    assert list(archives.members(path)) == FILES
    assert list(archives.members(path, wanted=lambda name: name == "two.bin")) == FILES[1:]
    target = archives.unpack(path, tmp_path / "deep" / "target")
    assert (target / "a" / "one.txt").read_bytes() == b"one"
    assert (target / "two.bin").read_bytes() == CONTENT
    assert archives.unpack(tmp_path / "gone", target) == target  # it is there already
    assert [path.name for path in target.parent.iterdir()] == ["target"]


@pytest.mark.parametrize("mode", ["w", "w:bz2", "w:xz"])
def test_other_compressions_are_read_too(tmp_path, mode):
    assert list(archives.members(make_tar(tmp_path / "archive", FILES, mode))) == FILES


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "a\\..\\evil", "C:/evil"])
def test_paths_that_lead_out_are_refused(tmp_path, kind, name):
    path = MAKERS[kind](tmp_path / f"archive.{kind}", [*FILES, (name, b"evil")])
    with pytest.raises(RunError, match="leads out of it"):
        archives.unpack(path, tmp_path / "in" / "target")
    assert list((tmp_path / "in").iterdir()) == []
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "/etc"
    path = make_tar(tmp_path / "archive.tar.gz", [(info, b""), ("link/passwd", b"evil")])
    with pytest.raises(RunError, match="holds a link or device, 'link'"):
        archives.unpack(path, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with pytest.raises(RunError, match="holds a link"):
        list(archives.members(make_zip(tmp_path / "archive.zip", [(info, b"/etc")])))


@pytest.mark.parametrize("kind", MAKERS)
def test_bombs_are_refused(tmp_path, kind):
    zeros = MAKERS[kind](tmp_path / f"zeros.{kind}", [("zeros", bytes(10**7))])
    assert zeros.stat().st_size < 20_000
    with pytest.raises(RunError, match="swells to more than it may"):
        archives.unpack(zeros, tmp_path / "target", most_bytes=10**6)
    many = MAKERS[kind](tmp_path / f"many.{kind}", [(str(n), b"") for n in range(101)])
    with pytest.raises(RunError, match="swells to more than it may"):
        list(archives.members(many, most_files=100))
    assert len(list(archives.members(many, most_files=101))) == 101
    assert not (tmp_path / "target").exists()


def test_a_zip_that_lies_about_its_size_is_found_out(tmp_path):
    path = make_zip(tmp_path / "lying.zip", [("zeros", bytes(10**6))])
    content = path.read_bytes().replace((10**6).to_bytes(4, "little"), (9).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(RunError, match="damaged or truncated"):
        list(archives.members(path))


def test_a_tar_header_that_swells_is_refused(tmp_path):
    info = tarfile.TarInfo("file")
    info.pax_headers = {"comment": "x" * 10**7}
    path = make_tar(tmp_path / "archive.tar.gz", [(info, b"")])
    assert path.stat().st_size < 50_000
    with pytest.raises(RunError, match="swells to more than it may"):
        list(archives.members(path, most_bytes=10**6))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_archives_are_refused(tmp_path, kind, share):
    noise = hashlib.shake_256(b"seed").digest(200_000)
    path = MAKERS[kind](tmp_path / f"archive.{kind}", [*FILES, ("noise", noise)])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(RunError, match="damaged or truncated"):
        archives.unpack(path, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_changed_byte_is_found_by_the_archives_own_checksum(tmp_path):
    for kind, make in MAKERS.items():
        noise = hashlib.shake_256(b"seed").digest(200_000)
        path = make(tmp_path / f"archive.{kind}", [("noise", noise)])
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(RunError, match="damaged or truncated"):
            list(archives.members(path))


def test_a_truncated_archive_without_published_checksum_is_not_taken(server, cache, tmp_path):
    whole = make_zip(tmp_path / "archive.zip", FILES).read_bytes()
    server.files["/archive.zip"] = whole[:-30]
    file = published(server, name="archive.zip", digest="", path="/archive.zip")
    with pytest.raises(RunError, match="damaged or truncated"):
        fetch.download(file)
    assert not (cache / "archive.zip").exists()
    server.files["/archive.zip"] = whole
    assert list(archives.members(fetch.download(file))) == FILES


# The command


def test_the_command_lists_and_fetches(server, cache, monkeypatch, capsys):
    from fastml_kit.tasks import magic

    whole = fetch.File("magic.bin", SHA256, (f"{server.address}/file.bin",))
    changed = magic.Dataset("uci-magic", "MAGIC", magic.load_whole, files=(whole,))
    monkeypatch.setattr(magic, "DATASETS", (changed, *magic.DATASETS[1:]))
    code, out, _ = fastml(capsys, "data", "list", "magic")
    assert code == 0 and "no: fastml data fetch" in out and "magic-synthetic*" in out
    code, out, err = fastml(capsys, "data", "fetch", "magic")
    assert code == 0 and out == f"uci-magic: {cache / 'magic.bin'}\n"
    assert "magic.bin: 100%" in err
    code, out, _ = fastml(capsys, "data", "list", "magic", "--json")
    assert code == 0 and f'"where": "{cache / "magic.bin"}"' in out and '"bytes": 102400' in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "magick"], "Did you mean 'magic'?"),
        (["fetch", "magic", "--dataset", "uci-mgic"], "Did you mean 'uci-magic'?"),
        (
            ["fetch", "magic", "--dataset", "uci-magic-70"],
            "is not here: put science/magic04_train70.npz into",
        ),
        (["fetch", "econt"], "is not here: put science/econt_hgcal_wafers_dev.npz into"),
        (["fetch"], "Missing argument 'TASK'"),
    ],
)
def test_the_command_refuses_in_one_line(cache, capsys, arguments, message):
    code, out, err = fastml(capsys, "data", *arguments)
    assert code == 2 and message in err and err.count("\n") == 1 and not out
