"""One frozen vision backbone, many tasks, each a small file of masks.

model = maskpack.load("zoo.safetensors", task="birds")   # a plain nn.Module
maskpack.switch(model, "zoo.safetensors", "flowers")     # another task, in place
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maskpack.common.version import __version__ as __version__

if TYPE_CHECKING:
    from maskpack.api import attach, fit, from_checkpoint, load, pack, read, switch
    from maskpack.backbones import from_module
    from maskpack.common.errors import MaskpackError
    from maskpack.datasets.decathlon import decathlon_score
    from maskpack.evaluation.one_picture import apply_image, classify_image
    from maskpack.evaluation.task_row import score_task
    from maskpack.packs.contents import Pack, PackedTask
    from maskpack.reports.describe import describe
    from maskpack.reports.paper_sizes import account
    from maskpack.reports.report_file import write_report
    from maskpack.runs.open import open_backbone
    from maskpack.suites.run import run_suite, suite_results

_HOMES = {  # public name -> module, imported on first use: torch costs seconds
    "MaskpackError": "common.errors",
    "Pack": "packs.contents",
    "PackedTask": "packs.contents",
    "account": "reports.paper_sizes",
    "apply_image": "evaluation.one_picture",
    "attach": "api",
    "classify_image": "evaluation.one_picture",
    "decathlon_score": "datasets.decathlon",
    "describe": "reports.describe",
    "fit": "api",
    "from_checkpoint": "api",
    "from_module": "backbones",
    "load": "api",
    "open_backbone": "runs.open",
    "pack": "api",
    "read": "api",
    "run_suite": "suites.run",
    "score_task": "evaluation.task_row",
    "suite_results": "suites.run",
    "switch": "api",
    "write_report": "reports.report_file",
}
__all__ = [
    "MaskpackError",
    "Pack",
    "PackedTask",
    "account",
    "apply_image",
    "attach",
    "classify_image",
    "decathlon_score",
    "describe",
    "fit",
    "from_checkpoint",
    "from_module",
    "load",
    "open_backbone",
    "pack",
    "read",
    "run_suite",
    "score_task",
    "suite_results",
    "switch",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'maskpack' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"maskpack.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
