"""`maskpack report` and `write_report`, on packs and on runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from processes import Done, run, run_here
from report_packs import affine, ksm, pack, piggyback, plain
from test_startup import ask, command
from tinynet import write_pictures

import maskpack
from maskpack.common.errors import OptionError, PackFormatError
from maskpack.packs.file import read, write
from maskpack.reports.render import rendered
from maskpack.reports.strips import Example, Maker, write_strips
from maskpack.reports.summary import summarize


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path / "zoo.safetensors", pack(piggyback("sparse"), ksm("scaled"), plain("head")))
    write(tmp_path / "more.safetensors", pack(affine("shifted")))
    return tmp_path


def failed(done: Done, code: int = 1) -> str:
    assert (done.code, done.out) == (code, ""), done
    assert "Traceback" not in done.err
    return done.err


@pytest.mark.parametrize("ending", ["html", "htm", "md", "json", "JSON"])
def test_the_ending_says_the_format(place: Path, ending: str) -> None:
    done = run_here(place, "report", "zoo.safetensors", "more.safetensors", "-o", f"r.{ending}")
    assert (done.code, done.out, done.err) == (0, f"r.{ending}\n", "")
    text = (place / f"r.{ending}").read_text(encoding="utf-8")
    begins = {"html": "<!DOCTYPE html>", "md": "# maskpack report", "json": "{"}
    assert text.startswith(begins[{"htm": "html", "JSON": "json"}.get(ending, ending)])
    assert "shifted" in text
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []


def test_stdout_takes_the_format_named(place: Path) -> None:
    done = run_here(place, "report", "zoo.safetensors", "-o", "-", "--format", "json")
    assert (done.code, done.err) == (0, "")
    assert [row["label"] for row in json.loads(done.out)["tasks"]] == ["head", "scaled", "sparse"]


def test_a_report_replaces_the_last_one_and_is_the_same(place: Path) -> None:
    arguments = ("report", "zoo.safetensors", "-o", "r.html")
    run_here(place, *arguments)
    first = (place / "r.html").read_bytes()
    assert run_here(place, *arguments).code == 0
    assert (place / "r.html").read_bytes() == first


def test_a_file_given_twice_is_told_once(place: Path) -> None:
    sources = ("zoo.safetensors", "./zoo.safetensors", str(place / "zoo.safetensors"))
    done = run_here(place, "report", *sources, "-o", "-", "--format", "json")
    assert len(json.loads(done.out)["packs"]) == 1


def test_plots_go_to_their_folder(place: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run_here(place, "report", "zoo.safetensors", "--plots", "p", "--plot-format", "svg")
    count = len(list((place / "p").glob("*.svg")))
    assert (done.code, done.out, done.err) == (0, "", f"{count} plots in p\n")
    assert count > 3


def test_images_are_shown_without_torch(place: Path) -> None:
    maker = Maker("birds", "birds", "ksm", "task", "zoo.safetensors", "test")
    parts = {"input": Image.new("RGB", (9, 9)), "output": Image.new("RGB", (9, 9), "red")}
    write_strips(place / "strips", maker, [Example("p", parts)])
    arguments = ("report", "zoo.safetensors", "--images", "strips", "-o", "r.html")
    code, heavy, out = ask(command(*arguments), place)
    assert (code, heavy, out) == (0, ["PIL"], "r.html\n")
    text = (place / "r.html").read_text(encoding="utf-8")
    assert text.count("<img ") == 2
    maskpack.write_report(place / "zoo.safetensors", place / "p.html", images=place / "strips")
    assert (place / "p.html").read_text(encoding="utf-8").count("<img ") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("zoo.safetensors",), 2, "say where to write"),
        (("zoo.safetensors", "-o", "r.txt"), 1, "r.txt: expected a name that ends in one of"),
        (("zoo.safetensors", "-o", "r"), 1, "r: expected a name that ends in one of .html"),
        (("zoo.safetensors", "-o", "-"), 2, "needs --format"),
        (("zoo.safetensors", "-o", "r.md", "--format", "pdf"), 2, "expected one of html, md, json"),
        (("zoo.safetensors", "--plots", "p", "--plot-format", "pdf"), 2, "expected png or svg"),
        (("nowhere", "-o", "r.md"), 1, "nowhere"),
        (("zoo.safetensors", "-o", "gone/r.md"), 1, "gone/r.md: cannot be written"),
        ((".", "-o", "r.md"), 1, "."),
        (("zoo.safetensors", "-o", "r.md", "--images", "."), 1, ".: no strips there"),
        (("zoo.safetensors", "-o", "r.md", "--images", "no"), 1, "no: cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    place: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert said in " ".join(failed(run_here(place, "report", *arguments), code).split())
    assert not list(place.glob("r*"))


def test_a_pack_is_reported_without_torch(place: Path) -> None:
    code, heavy, out = ask(command("report", "zoo.safetensors", "-o", "r.html"), place)
    assert (code, heavy, out) == (0, [], "r.html\n")


# ---- in Python


def test_write_report_is_the_commands_twin(place: Path) -> None:
    path = place / "zoo.safetensors"
    summary = maskpack.write_report(path, place / "r.json")
    assert json.loads((place / "r.json").read_text(encoding="utf-8")) == summary
    assert maskpack.write_report([read(path)]) == summary


def test_write_report_checks_what_it_is_given(place: Path) -> None:
    with pytest.raises(OptionError, match="ends in one of"):
        maskpack.write_report([place / "zoo.safetensors"], place / "r.pdf")
    with pytest.raises(OptionError, match="png or svg"):
        maskpack.write_report([], plots=place, plot_format="gif")
    with pytest.raises(PackFormatError):
        maskpack.write_report([place / "nowhere"], place / "r.md")


# ---- runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs; the second has not come to its test."""
    folder = tmp_path_factory.mktemp("report")
    write_pictures(folder / "data")
    for name, method in (("a", "piggyback"), ("b", "ksm")):
        done = run(
            folder,
            *("train-mask", "--backbone", "tinynet:build", "--task", "birds", "--data", "data"),
            *("--epochs", "1", "-b", "8", "--lr", "0.01", "-j", "0", "--method", method),
            *("-o", f"runs/{name}"),
        )
        assert done.code == 0, done.err
    (folder / "runs" / "b" / "result.json").unlink()
    return folder


def test_runs_are_reported_beside_their_pack(runs: Path) -> None:
    assert run(runs, "pack", "one=runs/a", "two=runs/b", "-o", "zoo.safetensors").code == 0
    sources = ("runs/a", "runs/b", "zoo.safetensors")
    done = run(runs, "report", *sources, "-o", "-", "--format", "json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    rows = {row["label"]: row for row in summary["tasks"]}
    assert list(rows) == ["birds (a)", "birds (b)", "one", "two"]
    assert rows["birds (b)"]["test"] is None and rows["birds (a)"]["test"] is not None
    assert rows["birds (a)"]["count"] == 12
    (about,) = summary["originals"]  # all learnt the same, whatever they are called
    assert len(about["tasks"]) == 4
    for format in ("html", "md"):
        assert "birds (b)" in rendered(summary, format)


def test_stdin_lists_sources(runs: Path) -> None:
    done = run(runs, "report", "-", "-o", "r.md", stdin="runs/a\nruns/b\n")
    assert (done.code, done.out) == (0, "r.md\n"), done.err


def test_the_summary_of_packs_in_memory_is_that_of_their_file(place: Path) -> None:
    read_ = read(place / "zoo.safetensors")
    tasks = [read_.tasks[name] for name in sorted(read_.tasks)]
    memory, file = summarize([pack(*tasks)]), summarize([read_])
    for a, b in zip(memory["tasks"], file["tasks"], strict=True):
        assert (a["total"], a["layers"]) == (b["total"], b["layers"])
