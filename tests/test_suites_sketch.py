"""The suite imagenet-to-sketch: its figures are those printed, its folders the published ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import tinynet
from processes import run_here
from test_suites_run import row

import maskpack
from maskpack.common.errors import OptionError, RunError
from maskpack.runs.open import open_pack
from maskpack.suites.definition import Suite
from maskpack.suites.read import on_backbone, parse_suite, read_suite

NAME = "imagenet-to-sketch"
FOLDERS = {
    "cubs": "cubs_cropped",
    "stanford_cars": "stanford_cars_cropped",
    "flowers": "flowers",
    "wikiart": "wikiart",
    "sketch": "sketches",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five prepared folders, in each a few pictures of three classes."""
    place = tmp_path_factory.mktemp("data")
    for folder in FOLDERS.values():
        tinynet.write_pictures(place / folder, each=8)
        shutil.rmtree(place / folder / "val")  # the published ones have none
    return place


def tiny() -> Suite:
    """The suite with tiny pictures, for three epochs; the backbone is still the file's."""
    text = read_suite(NAME).text
    ours = "epochs = 3\nbatch-size = 8\nimg-size = 16"
    assert "epochs = 30\nbatch-size = 32" in text and "epochs = 330" in text
    text = text.replace("epochs = 30\nbatch-size = 32", ours).replace("epochs = 330", "epochs = 3")
    return parse_suite(text, f"{NAME}.toml")


def trained(data: Path, output: Path, **more: Any) -> dict[str, Any]:
    found = maskpack.run_suite(
        tiny(), output, data=data, backbone="tinynet:build", trust_code=True, **more
    )
    assert found["failed"] == {}
    return found


# ---- what the file says


def test_the_folders_are_the_published_ones() -> None:
    suite = read_suite(NAME)
    assert {name: task.data for name, task in suite.tasks.items()} == FOLDERS
    assert suite.backbone == "resnet50" and suite.base is None
    sequences = {label for label, entry in suite.methods.items() if entry.sequence}
    assert sequences == {"packnet", "cpg", "ewc", "mas", "lwf", "lwm", "fine-tune-sequence"}


@pytest.mark.parametrize(
    ("backbone", "task", "label", "share"),
    [
        ("resnet50", "cubs", "affine", 0.824),
        ("resnet50", "cubs", "ksm", 0.8381),
        ("resnet50", "wikiart", "cpg", 0.7715),
        ("resnet50", "flowers", "piggyback (KSM paper)", 0.9477),
        ("densenet121", "sketch", "affine-simple", 0.799),
        ("densenet121", "stanford_cars", "piggyback-norms", 0.901),
        ("vgg16", "flowers", "piggyback (its code)", 0.9307),
    ],
)
def test_published_figures_belong_to_a_backbone(
    backbone: str, task: str, label: str, share: float
) -> None:
    published = on_backbone(read_suite(NAME), backbone).published
    assert published.scores[task][label] == share
    labels = {frozenset(row) for row in published.scores.values()}
    assert len(published.scores) == 5 and len(labels) == 1


def test_printed_mebibytes_stand_in_megabytes() -> None:
    sizes = read_suite(NAME).published.sizes
    printed = {"fine-tune": 554, "packnet": 115, "piggyback": 121, "cpg": 121, "ksm": 146}
    assert {key: round(size * 1e6 / 2**20) for key, size in sizes.items()} == printed


def test_another_backbone_without_figures_has_none() -> None:
    published = on_backbone(read_suite(NAME), "vgg16_bn").published
    assert not published.scores and not published.sizes and "Mallya" in published.source


# ---- another backbone


def test_figures_for_any_backbone_give_way_to_those_for_one() -> None:
    text = """
    backbone = "a"
    [methods.piggyback]
    [tasks.t]
    [published.scores]
    t = { piggyback = 0.5 }
    [published.sizes]
    piggyback = 1
    [published.on.b.scores]
    t = { piggyback = 0.6 }
    """
    suite = parse_suite(text.replace("\n    ", "\n"), "s.toml")
    other = on_backbone(suite, "b")
    assert suite.published.scores["t"]["piggyback"] == 0.5
    assert other.published.scores["t"]["piggyback"] == 0.6
    assert other.published.sizes == suite.published.sizes == {"piggyback": 1}
    assert on_backbone(other, "a") == suite


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[published.on.b.scores]", "[published.on.b.score]", "published.on.b 'score'"),
        ("t = { piggyback = 0.6 }", "u = { piggyback = 0.6 }", "published.on.b.scores 'u'"),
        ("t = { piggyback = 0.6 }", "t = { piggyback = 'x' }", "piggyback = 'x', expected a num"),
        (
            "[published.on.b.scores]",
            "[published.on]\nb = 1\n[published.on.c.scores]",
            "on: b = 1, expected a t",
        ),
    ],
)
def test_wrong_figures_are_one_line(old: str, new: str, message: str) -> None:
    text = (
        'backbone = "a"\n[methods.piggyback]\n[tasks.t]\n'
        "[published.on.b.scores]\nt = { piggyback = 0.6 }\n"
    )
    with pytest.raises(maskpack.MaskpackError, match=message):
        parse_suite(text.replace(old, new), "s.toml")


@pytest.mark.parametrize("line", ['"backbone" = "a"', "backbone = '''\na'''"])
def test_a_file_that_hides_its_backbone_is_told_so(line: str) -> None:
    suite = parse_suite(f"{line}\n[methods.piggyback]\n[tasks.t]\n", "s.toml")
    with pytest.raises(OptionError, match=r"s.toml: --backbone needs a line backbone = "):
        on_backbone(suite, "b")


# ---- from end to end


def test_tasks_and_methods_of_every_kind_run(data: Path, tmp_path: Path) -> None:
    chosen = {"tasks": ["cubs", "stanford_cars"], "methods": ["piggyback", "packnet", "lora"]}
    out = tmp_path / "out"
    found = trained(data, out, **chosen)
    for task in chosen["tasks"]:
        ours = row(found, "scores", task=task, figures="ours")
        assert all(0 <= ours[label] <= 1 for label in chosen["methods"])
    assert set(open_pack(out / "lora.safetensors").task("cubs").streams) == {
        "lora_A",
        "lora_B",
        "head",
    }
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/*/result.json")}
    assert trained(data, out, **chosen) == found
    assert {path: path.stat().st_mtime_ns for path in before} == before
    match = r"holds a suite with backbone = 'tinynet:build', now 'tiny:plain'; choose another"
    with pytest.raises(RunError, match=match):
        maskpack.run_suite(tiny(), out, data=data, backbone="tiny:plain", trust_code=True)
    with pytest.raises(RunError, match=r"backbone = 'tinynet:build', now 'resnet50'"):
        maskpack.run_suite(tiny(), out, data=data)


@pytest.mark.slow
def test_the_whole_suite_runs_and_its_table_has_every_row_and_column(
    data: Path, tmp_path: Path
) -> None:
    found = trained(data, tmp_path / "out")
    methods = list(tiny().methods)
    for task in (*FOLDERS, "average"):
        ours = row(found, "scores", task=task, figures="ours")
        assert all(0 <= ours[label] <= 1 for label in methods), ours
    assert {row["method"] for row in found["tables"]["sizes"]["rows"]} >= set(methods)


def test_the_command_shows_and_checks_another_backbone(data: Path, tmp_path: Path) -> None:
    shown = run_here(tmp_path, "suite", NAME, "--backbone", "densenet121", "--show")
    assert shown.code == 0 and '\nbackbone = "densenet121"\n' in shown.out
    assert shown.out.replace("densenet121", "resnet50", 1) != shown.out
    text = tiny().text
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    asked = ("suite", "mine.toml", "--backbone", "tinynet:build", "--data", str(data), "--dry-run")
    refused = run_here(tmp_path, *asked)
    assert refused.code == 1 and "import Python code, 'tinynet:build'" in refused.err
    done = run_here(
        tmp_path, *asked, "--trust-code", "--tasks", "cubs", "--methods", "ksm", "--json"
    )
    assert done.code == 0 and '"task": "cubs"' in done.out, done.err


def test_missing_data_name_each_folder_and_how_to_get_it(tmp_path: Path) -> None:
    done = run_here(tmp_path, "suite", NAME, "--data", "nowhere", "--dry-run")
    assert done.code == 1 and done.err.count("\n") == 1
    for task, folder in FOLDERS.items():
        assert f"nowhere/{folder} for {task} (from" in done.err
        assert f"maskpack data prepare {task}" in done.err
