"""The documents say what the program does."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from shell import ROOT, environment
from typer.testing import CliRunner

from maskpack import methods
from maskpack.cli import app
from maskpack.common.errors import PackFormatError

DOCS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
METHODS_PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    found = FENCE.findall(path.read_text(encoding="utf-8"))
    return [text for kind, text in found if kind == language]


def make_cli() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- the command line's page


def test_cli_page_is_current() -> None:
    page = make_cli()
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python docs/make_cli.py"


def test_cli_page_shows_every_option_of_help() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    runner = CliRunner(env={"COLUMNS": "200", "TERMINAL_WIDTH": "200", "NO_COLOR": "1"})
    for name, _ in make_cli().commands():
        section = page.partition(f"\n## maskpack {name}\n")[2].partition("\n## ")[0]
        assert section, f"no section for {name}"
        shown = runner.invoke(app, [*name.split(), "--help"]).output
        listed = set(re.findall(r"^\s*(?:-\w,\s+)?(--[\w-]+)", shown, re.MULTILINE))
        spelled = set(re.findall(r"--[\w-]+", section))
        assert listed - {"--help"} <= spelled, f"{name}: {listed - spelled} are not in cli.md"


# ---- the methods' page


def section_of(method: str) -> str:
    return METHODS_PAGE.partition(f"\n## {method}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", methods.METHODS)
def test_method_has_a_section_with_every_option_and_its_default(name: str) -> None:
    section = section_of(name)
    assert section, f"docs/methods.md has no section {name}"
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    for field in dataclasses.fields(methods.method_class(name)):  # type: ignore[arg-type]
        row = next((row for row in rows if f"`{field.name}`" in row.split("|")[1]), "")
        assert row, f"{name}: option {field.name} is not in the table"
        default = row.split("|")[2].replace("`", "").replace(" ", "").split(",")
        if isinstance(field.default, (bool, str)):
            assert str(field.default).lower() in default
        else:
            assert field.default in map(float, default)


def test_methods_page_has_every_row_of_both_ablations() -> None:
    assert section_of("ksm").count("maskpack train-mask") == 6
    assert section_of("affine").count("maskpack train-mask") == 10


METHODS_LINES = [
    line for block in blocks(ROOT / "docs" / "methods.md", "sh") for line in block.splitlines()
]


@pytest.mark.parametrize("line", [line for line in METHODS_LINES if " pack " in line])
def test_methods_page_packs_what_is_there(line: str) -> None:
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert isinstance(result.exception, PackFormatError), result.output
    assert ": no such file" in str(result.exception)


@pytest.mark.parametrize("line", [line for line in METHODS_LINES if " pack " not in line])
def test_methods_page_command_is_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    assert words.pop(0) == "maskpack"
    for option, value in {"--backbone": "tiny:plain", "--task": "sketches"}.items():
        words[words.index(option) + 1] = value
    if "--data" in words:
        place = words.index("--data")
        del words[place : place + 2]
    result = CliRunner().invoke(app, [*words, "--weights", "none", "--dry-run", "--json"])
    assert result.exit_code == 0, result.output or result.exception


# ---- the architecture's page


def test_architecture_lists_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("\n## Rooms\n")[2].partition("\n## ")[0]
    rooms = {path.stem for path in (ROOT / "maskpack").iterdir() if path.stem.isidentifier()}
    listed = set(re.findall(r"`(\w+)(?:/|\.py)`", table))
    assert {room for room in rooms if not room.startswith("__")} <= listed


# ---- README


def test_readme_begins_with_the_two_blocks_that_install() -> None:
    first, second = blocks(ROOT / "README.md", "sh")[:2]
    assert first == "pip install '.[demo]'\nmaskpack demo\n"
    assert second == "pip install -e '.[test]'\npython -m pytest\n"


@pytest.mark.slow
def test_readme_transcript_runs_as_it_stands(tmp_path: Path) -> None:
    script = "\n".join(blocks(ROOT / "README.md", "sh")[2:])
    assert script.count("maskpack ") >= 4
    env = environment(tmp_path)
    shell = shutil.which("bash") or "sh"
    subprocess.run([shell, "-ec", script], cwd=tmp_path, env=env, check=True)
    code = "\n".join(blocks(ROOT / "README.md", "python"))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)


# ---- all of them


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), f"{path.name}: {target}"
        if anchor and found.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{path.name}: {target}"


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_no_document_names_a_place_on_somebodys_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"(?<![\w.:/])/(?:home|root|work|Users|mnt|opt)/\S*", text)
