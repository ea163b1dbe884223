"""Files written whole or not at all."""

import hashlib
from pathlib import Path

import pytest

from fastml_kit import files


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_whole(path, "old")
    files.write_whole(path, "new", durable=False)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_whole(path, "half of it, and then \udcff")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_tree_is_known_by_the_hashes_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.v").write_bytes(b"module")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "log.txt").write_bytes(b"noise")
    assert files.sha256_tree(tmp_path, leave_out=frozenset({"log.txt"})) == {
        "a": hashlib.sha256(b"").hexdigest(),
        "b/c.v": hashlib.sha256(b"module").hexdigest(),
    }
