"""The report in a real browser, where there is one: chromium, without a window."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from report_packs import affine, ksm, pack, piggyback, plain

from maskpack.reports.render import rendered
from maskpack.reports.summary import summarize

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
]


def chromium(folder: Path, *arguments: str) -> str:
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    done = subprocess.run(
        [CHROMIUM or "", *quiet, f"--user-data-dir={folder / 'profile'}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.fixture
def text() -> str:
    many = [piggyback(f"a name of some length {n}", 0.8 + n / 200, seed=n) for n in range(12)]
    return rendered(summarize([pack(ksm(), affine(), plain(), *many)]), "html")


def test_light_and_dark_are_what_the_reader_prefers(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.html").write_text(text, encoding="utf-8")
    shades = []
    for scheme in (1, 0):  # light, dark
        chromium(
            tmp_path,
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={tmp_path / 'r.png'}",
            (tmp_path / "r.html").as_uri(),
        )
        with Image.open(tmp_path / "r.png") as picture:
            shades.append(picture.convert("L").getpixel((2, 2)))
    assert shades[0] > 240 and shades[1] < 40


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_screen(tmp_path: Path, text: str, width: int) -> None:
    """The page in a frame of so many pixels; a script beside it, for its own runs none, looks."""
    plain_page = re.sub(r"<meta http-equiv[^>]*>", "", text)
    frame = f'<iframe width="{width}" height="800" srcdoc="{html.escape(plain_page)}"></iframe>'
    look = """
        const page = document.querySelector("iframe").contentDocument.documentElement;
        const shown = [...page.querySelectorAll("figure > svg")].filter(
            svg => svg.getBoundingClientRect().width > 0);
        const small = shown.map(
            svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width);
        document.body.textContent =
            `WIDE ${page.scrollWidth} SHOWN ${shown.length} LEAST ${Math.min(...small)}`;
    """
    page = f'<body style="margin:0">{frame}<script>onload = () => {{{look}}}</script>'
    (tmp_path / "frame.html").write_text(page, encoding="utf-8")
    found = chromium(tmp_path, "--dump-dom", (tmp_path / "frame.html").as_uri())
    match = re.search(r"WIDE (\d+) SHOWN (\d+) LEAST ([\d.]+)", found)
    assert match, found
    assert int(match[1]) <= width + 4  # the frame's border
    assert int(match[2]) == 4  # size, k0, k1, scaled: one drawing of each, wide or narrow
    assert float(match[3]) > 0.85  # letters of 11.5 pixels stay larger than 9
