"""One file over HTTP, from a server on this machine that loses, changes and refuses it."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from webserver import Site, serving

from maskpack.common.errors import DataError
from maskpack.datasets.download import download
from maskpack.datasets.progress import Watch
from maskpack.datasets.sources import File

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
MD5 = hashlib.md5(CONTENT).hexdigest()


class Lines(Watch):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[str, int, int | None]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def step(self, what: str, done: int, total: int | None, unit: str = "bytes") -> None:
        self.steps.append((what, done, total))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(birds_tgz=CONTENT) as found:
        yield found


def birds(site: Site, **known: Any) -> File:
    return File(f"{site.url}/birds.tgz?download=1", **({"md5": MD5} | known))


def fetch(file: File, path: Path, **settings: Any) -> list[str]:
    watch = Lines()
    download(file, path, watch, **({"pause": 0.0, "tries": 3} | settings))
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert watch.steps[-1] in [
        (f"checking {file.name}", 10240, 10240),
        (file.name, 10240, 10240),
        (file.name, 10240, None),
    ]
    return watch.lines


def refused(file: File, path: Path, match: str, **settings: Any) -> None:
    with pytest.raises(DataError, match=match) as caught:
        download(file, path, **({"pause": 0.0, "tries": 3} | settings))
    assert "\n" not in str(caught.value)
    assert not path.exists()


def test_a_file_is_fetched_and_checked(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "new" / "birds.tgz"
    lines = fetch(birds(site, size=10240), path)
    assert lines == [
        f"{site.url}/birds.tgz?download=1 -> {path}",
        f"{path}: 10,240 bytes, md5 as published",
    ]
    assert site.asked == [("birds.tgz", None)]
    assert all(agent.startswith("maskpack/") for agent in site.agents)


def test_sha256_is_checked_where_it_is_known(site: Site, tmp_path: Path) -> None:
    known = hashlib.sha256(CONTENT).hexdigest()
    lines = fetch(birds(site, sha256=known), tmp_path / "birds.tgz")
    assert lines[-1].endswith("sha256 as published")
    file = birds(site, sha256="0" * 64)
    refused(file, tmp_path / "other.tgz", f"sha256 is {known}, expected 0000")


def test_without_a_checksum_that_is_said(site: Site, tmp_path: Path) -> None:
    lines = fetch(birds(site, md5=""), tmp_path / "birds.tgz")
    assert lines[-1].endswith("no checksum is published)")


def test_what_is_there_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "birds.tgz"
    path.write_bytes(CONTENT)
    download(birds(site), path)
    assert site.asked == []
    path.write_bytes(CONTENT[:-1])
    lines = fetch(birds(site), path)
    assert lines[0].startswith(f"warning: {path}: md5 is ")


def test_a_lost_connection_is_taken_up_where_it_was_lost(site: Site, tmp_path: Path) -> None:
    site.cuts = [3000, 2000]
    lines = fetch(birds(site), tmp_path / "birds.tgz")
    assert site.ranges_of("birds.tgz") == [None, "bytes=3000-", "bytes=5000-"]
    assert [line for line in lines if "closed after 3,000 bytes; trying again" in line]


def test_any_progress_renews_the_tries(site: Site, tmp_path: Path) -> None:
    site.cuts = [1000] * 9
    fetch(birds(site), tmp_path / "birds.tgz", tries=2)
    assert len(site.asked) == 10


def test_the_next_process_goes_on(site: Site, tmp_path: Path) -> None:
    site.cuts = [4000, 0, 0]
    path = tmp_path / "birds.tgz"
    refused(birds(site), path, r"closed after 4,000 bytes; 4,000 bytes are kept: run it again")
    assert (tmp_path / "birds.tgz.part").stat().st_size == 4000
    fetch(birds(site), path)
    assert site.ranges_of("birds.tgz")[-1] == "bytes=4000-"


def test_what_came_whole_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "birds.tgz.part").write_bytes(CONTENT)
    fetch(birds(site, size=10240), tmp_path / "birds.tgz")
    assert site.asked == []
    (tmp_path / "other.tgz.part").write_bytes(CONTENT)  # of unknown size: the server knows
    download(birds(site), tmp_path / "other.tgz")
    assert site.ranges_of("birds.tgz") == ["bytes=10240-"]


@pytest.mark.parametrize("size", [0, 10240])
def test_too_much_is_thrown_away(site: Site, tmp_path: Path, size: int) -> None:
    (tmp_path / "birds.tgz.part").write_bytes(CONTENT + b"more")
    fetch(birds(site, size=size), tmp_path / "birds.tgz")
    assert site.ranges_of("birds.tgz")[-1] is None


def test_a_server_without_ranges_starts_anew(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cuts = False, [3000]
    lines = fetch(birds(site), tmp_path / "birds.tgz")
    assert [line for line in lines if "cannot go on" in line]


def test_a_file_that_changed_meanwhile_is_not_put_together(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "birds.tgz"
    site.files["birds.tgz"], site.cuts = b"x" * 10240, [3000, 0, 0]
    refused(birds(site, md5=""), path, "are kept")
    site.files["birds.tgz"], site.tag = CONTENT, '"two"'
    fetch(birds(site, md5=""), path)


def test_parts_that_do_not_fit_are_fetched_once_more(site: Site, tmp_path: Path) -> None:
    (tmp_path / "birds.tgz.part").write_bytes(b"x" * 3000)
    lines = fetch(birds(site), tmp_path / "birds.tgz")
    assert site.ranges_of("birds.tgz") == ["bytes=3000-", None]
    assert [line for line in lines if line.startswith("warning: birds.tgz: md5 is")]


def test_a_server_that_gives_another_part_is_asked_for_all(site: Site, tmp_path: Path) -> None:
    site.cuts, site.shift = [3000], 7
    fetch(birds(site), tmp_path / "birds.tgz")
    assert site.ranges_of("birds.tgz") == [None, "bytes=3000-", None]


def test_a_wrong_checksum(site: Site, tmp_path: Path) -> None:
    file = birds(site, md5="0" * 32)
    refused(file, tmp_path / "birds.tgz", f"md5 is {MD5}, expected 0+; what came is not the publ")
    assert list(tmp_path.iterdir()) == []
    assert len(site.asked) == 1


def test_a_wrong_length_is_told_before_it_comes(site: Site, tmp_path: Path) -> None:
    refused(birds(site, size=9), tmp_path / "birds.tgz", "server has 10,240 bytes, expected 9; thi")
    assert list(tmp_path.iterdir()) == []


def test_without_a_length_the_checksum_tells(site: Site, tmp_path: Path) -> None:
    site.length, site.tag = False, ""
    fetch(birds(site), tmp_path / "birds.tgz")
    site.cuts = [3000]
    refused(birds(site), tmp_path / "other.tgz", "md5 is")


@pytest.mark.parametrize(("state", "said"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_a_file_that_is_not_given(site: Site, tmp_path: Path, state: int, said: str) -> None:
    (tmp_path / "birds.tgz.part").write_bytes(CONTENT[:5])
    site.states = [state]
    refused(birds(site), tmp_path / "birds.tgz", f"answers {said}; it moved .* put the file at /")
    assert len(site.asked) == 1
    assert (tmp_path / "birds.tgz.part").exists()


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.states = [503, 429]
    fetch(birds(site), tmp_path / "birds.tgz")
    site.states = [500] * 3
    refused(birds(site), tmp_path / "other.tgz", "500 Internal Server Error; try again, or put")


def test_a_silent_server(site: Site, tmp_path: Path) -> None:
    site.silence = 0.5
    path = tmp_path / "birds.tgz"
    refused(birds(site), path, "birds.tgz.*: the server is silent", patience=0.05, tries=2)


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/birds.tgz"
        refused(
            File(url), tmp_path / "birds.tgz", r"no connection \(Connection refused\); try again,"
        )
    url = "http://nowhere.invalid/birds.tgz"
    refused(File(url), tmp_path / "birds.tgz", r"no connection \(.*or put the file at /", tries=1)


def test_no_room(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10239})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    refused(birds(site), tmp_path / "birds.tgz", "10,240 bytes are to come, .* room for 10,239")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_disk_that_fills_up(site: Site, tmp_path: Path) -> None:
    (tmp_path / "birds.tgz.part").symlink_to("/dev/full")
    refused(birds(site), tmp_path / "birds.tgz", "birds.tgz.part: the disk is full; make room")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(site: Site, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        refused(birds(site), tmp_path / "new" / "birds.tgz", "cannot be written: Permission den")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_way(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(birds(site), tmp_path / "file" / "birds.tgz", "cannot be written: ")
