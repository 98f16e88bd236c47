"""Plots as files, where matplotlib is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_packs import affine, info, ksm, pack, piggyback, plain
from test_report_page import HOSTILE, hostile_pack

from maskpack.common.errors import MaskpackError
from maskpack.packs.contents import Pack, PackedTask
from maskpack.reports.render.plots import write_plots
from maskpack.reports.summary import summarize


def zoo() -> Pack:
    return pack(piggyback("sparse"), ksm("scaled"), affine("shifted"), plain("head"))


def test_without_matplotlib_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MaskpackError, match=r"pip install 'maskpack\[plot\]'"):
        write_plots(summarize([zoo()]), tmp_path / "plots")
    assert not (tmp_path / "plots").exists()


def test_a_file_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = write_plots(summarize([zoo()]), tmp_path / "a" / "b")
    assert [path.name for path in paths] == [
        "size-birds.png",
        "zeros-tiny.png",
        "entropy-tiny.png",
        "similarity-tiny.png",
        "jaccard-tiny.png",
        "k0-tiny.png",
        "k1-tiny.png",
        "scaled-tiny.png",
    ]
    assert sorted(paths) == sorted((tmp_path / "a" / "b").iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n") for path in paths)


def test_svg_is_xml_and_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    summary = summarize([pack(piggyback(), plain())])
    twice = [write_plots(summary, tmp_path / name, "svg") for name in "ab"]
    for first, second in zip(*twice, strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert ElementTree.parse(first).getroot().tag.endswith("svg")


# warnings are errors here: of letters that the font lacks, of labels that begin with _


def test_many_tasks_of_any_names_and_a_collapsed_one(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    spelt = [name.replace("=", ":") for name in HOSTILE]  # as a task may be called
    names = (*spelt, "_hidden", r"$\frac{1}{", "%s", "{0}")
    tasks = [piggyback(name, 0.8 + n / 100, seed=n) for n, name in enumerate(names)]
    collapsed = piggyback("collapsed", 0.01, classes=30)
    assert len(write_plots(summarize([pack(*tasks, collapsed)]), tmp_path)) == 5


@pytest.mark.parametrize("name", ["_hidden", r"$\frac{1}{", "наклейки 貼紙 🦜", "../../up"])
def test_anything_learnt_on_any_backbone_can_be_drawn(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "plots"
    paths = write_plots(summarize([hostile_pack(name)]), folder)
    assert len(paths) == len(set(paths)) == len(list(folder.iterdir())) == 5
    assert list(tmp_path.iterdir()) == [folder]


def test_names_of_the_same_letters_are_files_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tasks = [plain(f"{name}{n}") for n in range(2) for name in "!?"]
    alike = [
        PackedTask(t.name, t.method, {}, "frozen", info(0.5, original=t.name[0]), t.streams)
        for t in tasks
    ]
    packs = [pack(*alike)]
    paths = write_plots(summarize(packs), tmp_path)
    assert [path.name for path in paths] == ["size.png", "size-2.png"]
    assert all(path.exists() for path in paths)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    with pytest.raises(MaskpackError, match="file/plots: cannot be made"):
        write_plots(summarize([zoo()]), tmp_path / "file" / "plots")
