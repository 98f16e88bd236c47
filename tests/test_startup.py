"""What is asked without weights is answered without torch, which costs seconds to import."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shell import ROOT

GOLDEN = Path(__file__).parent / "data" / "format1" / "pack.safetensors"
HEAVY = ("torch", "torchvision", "timm", "PIL", "scipy")
ASK = f"""
import contextlib, io, json, sys
out = io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    try:
        exec(sys.argv[1])
    except SystemExit as ended:
        code = ended.code
    else:
        code = 0
json.dump([code, [name for name in {HEAVY!r} if name in sys.modules], out.getvalue()], sys.stdout)
"""


def ask(code: str, folder: Path) -> tuple[int, list[str], str]:
    """Exit code, heavy modules imported, and what was printed by a few lines of Python."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK, code],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    code_, heavy, out = json.loads(done.stdout)
    return code_, heavy, out


def command(*arguments: str) -> str:
    return f"import maskpack.cli; sys.argv = {['maskpack', *arguments]!r}; maskpack.cli.main()"


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (("--help",), 0, "Example: maskpack"),
        (("--version",), 0, "maskpack 0."),
        (("train-mask", "--help"), 0, "Example: maskpack train-mask"),
        (("inspect", str(GOLDEN)), 0, "resnet50/IMAGENET1K_V2"),
        (("inspect", str(GOLDEN), "--json"), 0, '"birds"'),
        (("inspect", str(GOLDEN), "--scope", "ksm"), 0, "MiB"),
        (("data", "list"), 0, "maskpack data fetch cubs"),
        (("data", "fetch", "wikiart"), 1, "error: wikiart cannot be fetched"),
        (("inspect", "nowhere"), 1, "error: nowhere: cannot be read"),
        (("train-maks",), 2, "No such command 'train-maks'"),
        (("train-mask", "--backbone", "x"), 2, "--task missing (or --resume"),
    ],
)
def test_a_command_that_needs_no_torch_does_not_import_it(
    tmp_path: Path, arguments: tuple[str, ...], code: int, shown: str
) -> None:
    found, heavy, out = ask(command(*arguments), tmp_path)
    assert (found, heavy) == (code, []), out
    assert shown in out


@pytest.mark.parametrize(
    "code",
    [
        "import maskpack",
        "import maskpack; maskpack.MaskpackError, maskpack.Pack, dir(maskpack)",
        "from maskpack import tasks, backbones, methods; from maskpack.packs import file; "
        "from maskpack.reports import describe, tables; from maskpack.common import preprocess",
        "from maskpack.datasets import fetch_task, registry",
        f"from maskpack.packs import file; file.read({str(GOLDEN)!r}).task('birds').masks",
    ],
)
def test_reading_in_python_does_not_import_torch(tmp_path: Path, code: str) -> None:
    assert ask(code, tmp_path)[1] == []


def test_importing_maskpack_costs_little_of_its_own() -> None:
    code = (
        "import time; begin = time.perf_counter(); import maskpack; "
        "print(time.perf_counter() - begin)"
    )
    environment = {"PYTHONPATH": str(ROOT)}
    seconds = [
        float(subprocess.check_output([sys.executable, "-c", code], env=environment))
        for _ in range(3)
    ]
    assert min(seconds) < 0.2


@pytest.mark.slow
def test_inspect_takes_a_fifth_of_what_torch_takes(tmp_path: Path) -> None:
    def seconds(*arguments: str) -> float:
        begin = time.perf_counter()
        environment = {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=-3)
        return time.perf_counter() - begin

    pairs = [
        (seconds("-m", "maskpack", "inspect", str(GOLDEN)), seconds("-c", "import torch"))
        for _ in range(5)
    ]
    assert min(ours for ours, _ in pairs) < min(torch for _, torch in pairs) / 5
