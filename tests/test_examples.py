"""The examples run as they stand and print what their first lines say."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from shell import ROOT, environment

import maskpack

EXAMPLES = ROOT / "examples"


def expected(path: Path) -> list[str]:
    """The output that a docstring or a leading comment shows, indented by four, at its end."""
    text = path.read_text(encoding="utf-8")
    about = text.split('"""')[1] if path.suffix == ".py" else text.split("\n\n")[0]
    shown = re.sub(r"^# ?", "", about, flags=re.MULTILINE).rpartition(":\n\n")[2]
    return [line[4:] for line in shown.strip("\n").splitlines()]


def without_numbers(lines: list[str]) -> list[str]:
    return [re.sub(r"\d+(\.\d+)?", "0", line) for line in lines]


def run(path: Path, folder: Path) -> list[str]:
    first = [sys.executable, "-W", "error"] if path.suffix == ".py" else ["bash"]
    done = subprocess.run(
        [*first, str(path)],
        cwd=folder,
        env=environment(folder),
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_network.py", "image_folder.py", "switch_tasks.py"])
def test_example_prints_what_its_docstring_shows(name: str, tmp_path: Path) -> None:
    path = EXAMPLES / name
    assert without_numbers(run(path, tmp_path)) == without_numbers(expected(path))


@pytest.mark.slow
def test_pipeline_prints_what_its_comment_shows(tmp_path: Path) -> None:
    path = EXAMPLES / "pipeline.sh"
    lines, shown = run(path, tmp_path), expected(path)
    assert len(lines) == len(shown)  # which layers have most zeros depends on the machine
    assert [line for line in lines if line.endswith(":")] == [x for x in shown if x.endswith(":")]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("piggyback", {}),
        ("piggyback", {"values": "ternary", "init": "uniform"}),
        ("ksm", {}),
        ("ksm", {"coefficients": "u8", "granularity": "element"}),
        ("ksm", {"coefficients": "fp16", "granularity": "channel"}),
        ("affine", {"granularity": "channel"}),
        ("fine-tune", {}),
        ("lora", {"rank": "3", "dtype": "fp32"}),
    ],
)
def test_reader_without_maskpack_reads_what_maskpack_reads(
    method: str, options: dict[str, str], tmp_path: Path
) -> None:
    network = maskpack.attach(tiny.backbone(tiny.everything), 3, method, norms="task", **options)
    pack = maskpack.pack({"shades": tiny.train(network)}, tmp_path / "one.safetensors")
    spec = importlib.util.spec_from_file_location("read_pack", EXAMPLES / "read_pack.py")
    assert spec is not None and spec.loader is not None
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    found = reader.read_pack(str(pack.path))
    assert found.keys() == pack.tasks.keys()
    for name, task in pack.tasks.items():
        assert found[name].keys() == task.streams.keys()
        for stream in task.streams:
            arrays = task.arrays(stream)
            assert [*found[name][stream]] == [*arrays]
            for row, array in arrays.items():
                assert found[name][stream][row].dtype == array.dtype
                assert np.array_equal(found[name][stream][row], array)


def test_reader_imports_nothing_but_numpy() -> None:
    text = (EXAMPLES / "read_pack.py").read_text(encoding="utf-8")
    imported = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    assert set(imported) == {"__future__", "json", "math", "sys", "zlib", "numpy"}
