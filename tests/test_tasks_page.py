"""docs/tasks.md says what the tasks that make pictures do."""

from __future__ import annotations

import dataclasses
import re

import pytest
from shell import ROOT

from maskpack.tasks.dense import IMAGE_TO_IMAGE
from maskpack.tasks.dense.coco import CocoOptions
from maskpack.tasks.dense.colouring import ColouringOptions
from maskpack.tasks.dense.edges import EdgeOptions
from maskpack.tasks.dense.picture import PictureOptions
from maskpack.tasks.dense.segmentation import SegmentationOptions
from maskpack.tasks.dense.style import StyleOptions
from maskpack.tasks.dense.voc import VocOptions

PAGE = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """What stands under a heading, up to the next of its kind or above."""
    level, rest = re.search(rf"\n(##+) {re.escape(title)}\n(.*)", PAGE, re.DOTALL).groups()  # type: ignore[union-attr]
    return re.split(rf"\n#{{2,{len(level)}}} ", rest)[0]


@pytest.mark.parametrize("name", IMAGE_TO_IMAGE)
def test_every_task_has_its_heading_and_a_row_that_leads_there(name: str) -> None:
    assert re.search(rf"^##+ {name}$", PAGE, re.MULTILINE)
    assert f"| [`{name}`](#{name}) |" in PAGE


@pytest.mark.parametrize(
    ("title", "options"),
    [
        ("Segmentation", SegmentationOptions),
        ("voc-segmentation", VocOptions),
        ("coco-segmentation", CocoOptions),
        ("autoencode", PictureOptions),
        ("colouring", ColouringOptions),
        ("edges2photo", EdgeOptions),
        ("style-transfer", StyleOptions),
    ],
)
def test_every_option_and_its_default_are_in_the_table(title: str, options: type) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (?:`([\w.]+)`|none) \|", section(title).partition("\n### ")[0], re.M
    )
    assert rows == [(field.name, str(field.default)) for field in dataclasses.fields(options)]
