"""Archives as they should be, and as those who mean harm make them."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from maskpack.common.errors import DataError
from maskpack.datasets import archives
from maskpack.datasets.archives import unpack

GOOD = {"birds/": None, "birds/a/1.txt": b"one", "birds/2.txt": b"two" * 999, "notes": b"n"}


def tar(path: Path, members: dict[str, bytes | None], how: str = "w:gz", **changes: Any) -> Path:
    """An archive of files and folders (None); `changes` are set in the last member's header."""
    with tarfile.open(path, how) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            if name == list(members)[-1]:
                for key, value in changes.items():
                    setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content or b""))
    return path


def zipped(path: Path, members: dict[str, bytes | None], kind: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if kind and name == list(members)[-1]:
                info.external_attr = (kind | 0o644) << 16
            archive.writestr(info, content or b"")
    return path


def refused(archive: Path, match: str, folder: Path | None = None) -> None:
    folder = folder or archive.parent / "out"
    with pytest.raises(DataError, match=match) as caught:
        unpack(archive, folder, "birds")
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value)
    assert not (folder / "birds").exists()


@pytest.mark.parametrize("name", ["x.tgz", "x.tar.gz", "x.tar", "x.tar.bz2", "x.tar.xz", "x.zip"])
def test_an_entry_is_unpacked(tmp_path: Path, name: str) -> None:
    kind = {"tgz": "gz", "tar": ""}.get(name.rpartition(".")[2], name.rpartition(".")[2])
    dotted = {f"./{member}": content for member, content in GOOD.items()}
    make = (
        zipped(tmp_path / name, GOOD)
        if kind == "zip"
        else tar(tmp_path / name, dotted, f"w:{kind}")
    )
    left = tmp_path / "out" / f".{name}.unpacking" / "birds"  # by a killed process
    left.mkdir(parents=True)
    (left / "3.txt").touch()
    unpack(make, tmp_path / "out", "birds")
    files = {path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob("*")}
    found = {str(name): path.read_bytes() for name, path in files.items() if path.is_file()}
    assert found == {"birds/a/1.txt": b"one", "birds/2.txt": b"two" * 999}


def test_modes_and_owners_are_not_taken_over(tmp_path: Path) -> None:
    unpack(tar(tmp_path / "x.tgz", {"birds/1": b"one"}, mode=0o6777, uid=12345), tmp_path, "birds")
    found = (tmp_path / "birds/1").stat()
    assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)
    assert found.st_uid == tmp_path.stat().st_uid


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "birds/../../x", "birds\\..\\..\\x", "C:x", "birds/.."]
)
def test_names_that_lead_outside(tmp_path: Path, name: str) -> None:
    members: dict[str, bytes | None] = {"birds/1": b"one", name: b"harm"}
    refused(tar(tmp_path / "x.tgz", members), "leads outside; not unpacked")
    refused(zipped(tmp_path / "x.zip", members), "leads outside; not unpacked")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    members: dict[str, bytes | None] = {"birds/1": b"one", "birds/2": b""}
    archive = tar(tmp_path / "x.tgz", members, type=kind, linkname="/etc/passwd")
    refused(archive, "'birds/2' in it is neither file nor folder")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip(tmp_path: Path, kind: int) -> None:
    archive = zipped(tmp_path / "x.zip", {"birds/1": b"one", "birds/2": b"/etc"}, kind)
    refused(archive, "'birds/2' in it is neither file nor folder")


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS", 0)
    members: dict[str, bytes | None] = {"birds/1": bytes(1 << 20)}
    refused(tar(tmp_path / "x.tgz", members), r"more than [\d,]+ bytes would come out of [\d,]+;")
    refused(zipped(tmp_path / "x.zip", members), r"more than [\d,]+ bytes would come out of")


@pytest.mark.parametrize("name", ["x.tgz", "x.zip", "x.tar"])
def test_truncated(tmp_path: Path, name: str) -> None:
    noise = bytes(i * i % 251 for i in range(5000))
    members: dict[str, bytes | None] = {"birds/1": noise, "birds/2": noise}
    path = tmp_path / name
    if name == "x.zip":
        zipped(path, members)
    else:
        tar(path, members, "w:gz" if name == "x.tgz" else "w")
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:size])
        refused(path, r"damaged \(.*; remove it and it is fetched again|expected 'birds' in it")


def test_a_flipped_bit_in_a_zip_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("birds/1", b"x" * 100)
    content = bytearray(path.read_bytes())
    content[content.index(b"xxx") + 50] ^= 1
    path.write_bytes(content)
    refused(path, r"damaged \(Bad CRC-32")


def test_not_an_archive(tmp_path: Path) -> None:
    for name in ("x.tgz", "x.zip"):
        (tmp_path / name).write_bytes(b"<html>log in first</html>" * 99)
        refused(tmp_path / name, "damaged")


def test_another_archive(tmp_path: Path) -> None:
    refused(
        tar(tmp_path / "x.tgz", {"cars/1": b"", "b": b""}), "expected 'birds' in it, found b, c"
    )


def test_a_file_that_is_a_folder_too(tmp_path: Path) -> None:
    archive = tar(tmp_path / "x.tgz", {"birds/1": b"one", "birds/1/2": b"two"})
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(archive, tmp_path, "birds")
    archive = tar(tmp_path / "x.tgz", {"birds/1": b"one", "./birds/1": b"two"})
    with pytest.raises(DataError, match="cannot be unpacked: File exists"):
        unpack(archive, tmp_path, "birds")
