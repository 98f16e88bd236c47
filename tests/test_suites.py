"""A suite's file, its cells, and which suites may go on in a folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import tinysuite
from processes import run_here
from test_startup import ask, command

from maskpack.common.errors import MaskpackError, OptionError, RunError, UnknownName
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.methods.base import Recipe
from maskpack.suites import builtin_suites
from maskpack.suites.definition import BASE, Suite
from maskpack.suites.folder import SuiteFolder
from maskpack.suites.options import OPTIONS, fields_of, layered
from maskpack.suites.plan import chosen_cells, every_cell
from maskpack.suites.read import parse_suite, read_suite
from maskpack.training.setup import Options


def suite(old: str = "", new: str = "") -> Suite:
    assert old in tinysuite.TEXT
    return parse_suite(tinysuite.TEXT.replace(old, new), "mine.toml")


# ---- the file


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("backbone =", "bakbone =", "unknown key of mine.toml 'bakbone'; did you mean 'backbone'"),
        ('backbone = "tinydense:build"', "", "mine.toml: no backbone"),
        ('title = "Tiny"', "title =", "mine.toml: not TOML: Invalid value"),
        ('title = "Tiny"', "title = 3", "mine.toml: title = 3, expected text"),
        ('title = "Tiny"', "seeds = 0", "mine.toml: seeds = 0, expected a list of different whole"),
        ('title = "Tiny"', "seeds = [0, 0]", r"mine.toml: seeds = \[0, 0\], expected"),
        ("epochs = 1\n", "epoch = 1\n", "key of mine.toml: options 'epoch'; did you mean 'epochs'"),
        ("epochs = 1\n", "epochs = 1.5\n", "options: epochs = 1.5, expected a whole number"),
        ("epochs = 1\n", "epochs = true\n", "options: epochs = True, expected a whole number"),
        ("lr = 1e-2", 'lr = "1e-2"', "options: lr = '1e-2', expected a number"),
        ("lr = 1e-2", "lr = inf", "options: lr = inf, expected a number"),
        ("lr = 1e-2", "mean = [0.5]", r"mean = \[0.5\], expected a list of 3 numbers"),
        ("lr = 1e-2", "set = { a = [1] }", "expected a table of numbers, texts, true or false"),
        ("[methods.decoder]", "[methods.decode]", "unknown method of mine.toml: methods.decode"),
        ("[methods.decoder]", "[methods.tall]", "unknown method of mine.toml: methods.tall 'tall'"),
        ("[methods.decoder]", "[methods.base]\nmethod = 'ksm'", "methods.base: this name is the"),
        ("sequence = true", "sequence = 1", "methods.fine-tune: sequence = 1, expected true or"),
        ("sequence = true", "squence = true", "methods.fine-tune 'squence'; did you mean 'seq"),
        ("[methods.decoder]", "[methods]\ndecoder = 1", "methods: decoder = 1, expected a table"),
        ('task = "auto"', 'task = "aut"', "unknown task of mine.toml: base 'aut'; did you mean"),
        ('task = "auto"', "", "mine.toml: base: no task"),
        ("epochs = 2", 'method = "x"', "unknown method of mine.toml: base 'x'"),
        ("[tasks.ab]", '[tasks."a/b"]', "tasks.'a/b': names a folder too"),
        ('metric = "MSE"', "metric = 1", "tasks.colour: metric = 1, expected text"),
        ('metric = "MSE"', "methods.x = {}", "unknown method of mine.toml: tasks.colour 'x'"),
        ('metric = "MSE"', "methods.scratch = 1", "colour: methods.scratch = 1, expected a table"),
        ('metric = "MSE"', "methods.scratch = {a=1}", "tasks.colour.methods.scratch 'a'"),
        ("auto = { base = 0.5 }", "at = { base = 0.5 }", "task of mine.toml: published.scores"),
        ("auto = { base = 0.5 }", "auto = 0.5", "published.scores: auto = 0.5, expected a table"),
        ("base = 0.5", 'base = "half"', "published.scores.auto: base = 'half', expected a number"),
        ("[published.sizes]", "[published.size]", "unknown key of mine.toml: published 'size'"),
        ("piggyback = 65.4", "piggyback = true", "sizes: piggyback = True, expected a number"),
        ('"56.4 + 1.8 x 5"', "1.8", "published.counted: piggyback = 1.8, expected text"),
        ("auto = 0.4 }", "aut = 0.4 }", "task of mine.toml: published.similarity.piggyback.ab"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_file_and_key(old: str, new: str, message: str) -> None:
    with pytest.raises(MaskpackError, match=message) as raised:
        suite(old, new)
    assert "\n" not in str(raised.value)


def test_a_suite_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown suite 'image-to-imag'; did you mean"):
        read_suite("image-to-imag")
    with pytest.raises(OptionError, match=r"mine.toml: no such file"):
        read_suite(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match=r"mine.toml: cannot be read"):
        read_suite(tmp_path / "mine.toml")


@pytest.mark.parametrize("name", builtin_suites())
def test_built_in_suite_is_whole(name: str) -> None:
    found = read_suite(name)
    assert found.name == name and found.title
    assert (every_cell(found)[0].label == BASE) == (found.base is not None)
    scored = set(found.published.scores)
    assert scored <= set(found.tasks)


def test_published_figures_are_those_of_the_paper() -> None:
    published = read_suite("image-to-image").published
    assert published.scores["voc-segmentation"]["piggyback"] == 0.6145
    assert published.scores["style-munch"]["decoder"] == 544348
    assert published.after["colouring"]["fine-tune"] == 0.5321
    assert published.sizes["piggyback"] == 65.4 == round(56.4 + 1.8 * 5, 1)
    shares = [v for row in published.similarity["piggyback"].values() for v in row.values()]
    assert len(shares) == 15 and min(shares) == 0.4326 and max(shares) == 0.5210
    blocks = read_suite("residual-blocks").published
    assert (blocks.sizes["6 blocks"], blocks.sizes["9 blocks"]) == (683.7, 1021.2)
    assert blocks.scores["voc-cross-entropy"]["blocks"] == 0.5255


def test_every_option_of_a_training_has_a_key() -> None:
    fields = {path for path, _ in OPTIONS.values()}
    for group, kind in (("recipe", Recipe), ("preprocess", Preprocess), ("augment", Augment)):
        names = {field.name for field in dataclasses.fields(kind)}
        assert {path.partition(".")[2] for path in fields if path.startswith(group)} == names
    own = {path for path in fields if "." not in path} - {"named"}
    assert own <= {field.name for field in dataclasses.fields(Options)}


def test_options_become_those_of_a_run() -> None:
    text = {"epochs": 3, "hflip": 0.5, "img-size": 64, "set": {"a": 1}, "mean": [0.1, 0.2, 0.3]}
    files = {"style": "gogh.jpg", "task-set": {"features": "vgg", "loss": "l2"}}
    assert fields_of(text | files, Path("d")) == {
        "recipe": {"epochs": 3},
        "augment": {"hflip": 0.5},
        "preprocess": {"img_size": 64, "mean": (0.1, 0.2, 0.3)},
        "set": {"a": 1},
        "task_set": {"style": "d/gogh.jpg", "features": "d/vgg", "loss": "l2"},
    }


def test_nearer_options_go_before_farther_ones() -> None:
    assert layered({"lr": 1, "set": {"a": 1, "b": 1}}, {"lr": 2}, {"set": {"b": 2}}) == {
        "lr": 2,
        "set": {"a": 1, "b": 2},
    }
    found = suite("[methods.scratch]", "[methods.scratch]\nepochs = 5\nhflip = 0.5")
    assert found.options_of("colour", "scratch")["epochs"] == 5
    assert found.options_of("colour", "decoder")["epochs"] == 1
    assert found.options_of("auto", BASE) == {
        "epochs": 2,
        "batch-size": 2,
        "opt": "adam",
        "lr": 1e-2,
        "hflip": 0.5,
    }
    nearest = suite('metric = "MSE"', "epochs = 6\nmethods.scratch.epochs = 7")
    assert nearest.options_of("colour", "scratch")["epochs"] == 7
    assert nearest.options_of("colour", "decoder")["epochs"] == 6


# ---- the cells


def test_cells_come_after_what_they_start_from() -> None:
    cells = every_cell(suite('title = "Tiny"', "seeds = [0, 3]"))
    assert len(cells) == 1 + 2 * 2 * 5
    for place, cell in enumerate(cells):
        assert cell.start is None or cell.start in cells[:place]
    starts = {(cell.task, cell.label, cell.seed): cell.start for cell in cells}
    base = cells[0]
    assert (base.task, base.label, base.seed) == ("auto", BASE, 0)
    assert starts["colour", "scratch", 3] is None
    assert starts["ab", "decoder", 3] == starts["colour", "fine-tune", 3] == base
    before = starts["ab", "fine-tune", 3]
    assert before is not None and (before.task, before.label) == ("colour", "fine-tune")


def test_chosen_cells_bring_what_they_start_from() -> None:
    cells = chosen_cells(suite(), tasks=["ab"], labels=["fine-tune", "scratch"])
    assert [(cell.task, cell.label) for cell in cells] == [
        ("auto", BASE),
        ("colour", "fine-tune"),
        ("ab", "scratch"),
        ("ab", "fine-tune"),
    ]
    with pytest.raises(UnknownName, match=r"unknown task of mine.toml 'abc'"):
        chosen_cells(suite(), tasks=["abc"])
    with pytest.raises(UnknownName, match=r"unknown method of mine.toml 'lora'"):
        chosen_cells(suite(), labels=["lora"])


def test_without_a_base_cells_start_from_the_backbone() -> None:
    found = suite('[base]\ntask = "auto"\nepochs = 2\n', "")
    assert [cell.start for cell in every_cell(found) if cell.label != "fine-tune"] == [None] * 12


# ---- the folder


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('title = "Tiny"', 'title = "Other"\nseeds = [0, 1]'),
        ('metric = "MSE"', 'metric = "SSIM"\nsource = "somewhere"'),
        ("piggyback = 65.4", "piggyback = 66"),
        ("[methods.affine]", "[methods.affine]\n[methods.ksm]\nlr = 1"),
        ("[published]", '[tasks.new]\ntask = "colouring"\n[published]'),
        ("[methods.affine]", "[methods.affine]\n[methods.ksm]\n[tasks.ab.methods.ksm]\nlr = 1"),
    ],
)
def test_a_suite_may_grow_in_its_folder(tmp_path: Path, old: str, new: str) -> None:
    folder = SuiteFolder(tmp_path)
    folder.keep(suite())
    changed = tinysuite.TEXT.replace(old, new)
    if "tasks.ab.methods" in new:  # a table may be opened once only
        changed = tinysuite.TEXT.replace("[methods.affine]", "[methods.affine]\n[methods.ksm]")
        changed = changed.replace('values = "ab" }', 'values = "ab" }\nmethods.ksm = { lr = 1 }')
    folder.check(parse_suite(changed, "mine.toml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 1\n", "epochs = 2\n", "a suite with options.epochs = 1, now 2; choose another"),
        ("epochs = 2\n", "epochs = 3\n", "a suite with base.epochs = 2, now 3"),
        ("epochs = 2\n", "", "a suite with base.epochs = 2, which mine.toml has not"),
        ("tinydense:build", "tinynet:build", "backbone = 'tinydense:build', now 'tinynet:build'"),
        ('"ab" }', '"ab", loss = "l2" }', "tasks.ab.task-set.loss = None, now 'l2'"),
        ("[methods.decoder]\n", "", "a suite with methods.decoder, which mine.toml has not"),
        ("[methods.affine]", "[methods.affine]\nlr = 1", "methods.affine.lr = None, now 1"),
        ("[tasks.colour]", "[tasks.x]\n[tasks.colour]", "sequence is auto, colour, ab, now auto"),
    ],
)
def test_another_suite_is_refused_in_a_folder(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    folder = SuiteFolder(tmp_path)
    folder.keep(suite())
    with pytest.raises(RunError, match=message) as raised:
        folder.check(suite(old, new))
    assert "\n" not in str(raised.value)


def test_a_folder_with_runs_of_no_suite_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(RunError, match="holds runs but no suite"):
        SuiteFolder(tmp_path).check(suite())


# ---- the command, before anything is opened


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (("suite",), 0, "image-to-image-small"),
        (("suite", "--help"), 0, "Example: maskpack suite"),
        (("suite", "residual-blocks", "--show"), 0, '\n[methods.two-stage]\nmethod = "residual'),
        (("suite", "nowhere"), 1, "error: unknown suite 'nowhere'; known: cifar100-20"),
        (("suite", "tiny.toml"), 1, "error: tiny.toml wants to import Python code, 'tinydense:"),
        (("suite", "image-to-image", "--seeds", "x"), 2, "expected whole numbers, such as 0,1,2"),
        (("suite", "image-to-image", "--tasks", "x"), 1, "error: unknown task of image-to-image"),
        (("suite", "image-to-image", "-o", "tiny.toml"), 1, "error: tiny.toml is a file"),
    ],
)
def test_a_suite_is_read_without_torch(
    tmp_path: Path, arguments: tuple[str, ...], code: int, shown: str
) -> None:
    tinysuite.write(tmp_path)
    found, heavy, out = ask(command(*arguments), tmp_path)
    assert (found, heavy) == (code, []), out
    assert shown in out


def test_what_show_prints_is_a_suite(tmp_path: Path) -> None:
    for name in builtin_suites():
        text = run_here(tmp_path, "suite", name, "--show").out
        assert parse_suite(text, "x.toml").raw == read_suite(name).raw


def test_missing_data_are_listed_together(tmp_path: Path) -> None:
    done = run_here(tmp_path, "suite", "image-to-image", "--data", "d", "--dry-run")
    assert done.code == 1 and done.out == ""
    line, *more = done.err.splitlines()
    assert not more and line.startswith("error: image-to-image: data missing: d/coco for coco-seg")
    assert "d/styles/gogh.jpg for style-gogh" in line
    assert "d/VOCdevkit for voc-segmentation (from host.robots.ox.ac.uk" in line
    assert not list(tmp_path.glob("runs/*"))


def test_a_dry_run_lists_every_cell_and_writes_nothing(tmp_path: Path) -> None:
    tinysuite.write(tmp_path)
    options = ("--data", "pictures", "--trust-code", "--dry-run", "--json", "-o", "out")
    done = run_here(tmp_path, "suite", "tiny.toml", *options)
    rows = json.loads(done.out)
    assert len(rows) == 11 and {row["state"] for row in rows} == {"to do"}
    assert rows[-1]["run"] == "out/runs/ab/affine/seed0"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr = 1e-2", 'opt = "lion"', "tiny.toml: not TOML"),
        ('opt = "adam"', 'opt = "lion"', "tiny.toml: base: --opt 'lion': expected one of adam"),
        ("[methods.affine]", "[methods.affine]\nset = {x = 1}", "tiny.toml: methods.affine: unkn"),
        ("[methods.affine]", "[methods.affine]\nnorms = 'x'", "tiny.toml: methods.affine: "),
        ("[methods.decoder]", "[methods.decoder]\nrecipe = 'small'", "methods.decoder: --recipe"),
        ('values = "ab"', 'values = "lab"', "tiny.toml: tasks.ab: values='lab': expected one of"),
        ('task = "autoencode"', 'task = "x"', "tiny.toml: tasks.auto: "),
        ('metric = "MSE"', "img-size = 4", "tiny.toml: methods.scratch with tasks.colour: --img"),
        (
            "tinydense:build",
            "tinynet:build",
            "tiny.toml: base: tinynet:build/none#0 gives 3 numbers",
        ),
        ("tinydense:build", "resnet50x", "tiny.toml: base: unknown backbone 'resnet50x'"),
    ],
)
def test_what_cannot_be_trained_is_one_line_before_anything_is(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    tinysuite.write(tmp_path, tinysuite.TEXT.replace(old, new))
    options = ("--data", "pictures", "--trust-code", "-o", "out")
    done = run_here(tmp_path, "suite", "tiny.toml", *options)
    assert done.code == 1 and len(done.err.splitlines()) == 1
    assert message in done.err
    assert not (tmp_path / "out" / "runs").exists()
