"""One frozen vision backbone, many tasks, each a small file of masks.

model = maskpack.load("zoo.safetensors", task="birds")   # a plain nn.Module
maskpack.switch(model, "zoo.safetensors", "flowers")     # another task, in place
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maskpack.version import __version__ as __version__

if TYPE_CHECKING:
    from maskpack.accounting import account
    from maskpack.api import attach, fit, from_checkpoint, load, pack, read, switch
    from maskpack.applying import apply_image, classify_image
    from maskpack.backbones import from_module
    from maskpack.decathlon import decathlon_score
    from maskpack.errors import MaskpackError
    from maskpack.packed import Pack, PackedTask
    from maskpack.report import describe
    from maskpack.reporting import write_report
    from maskpack.resolve import open_backbone
    from maskpack.score import score_task
    from maskpack.suites.running import run_suite, suite_results

_HOMES = {  # public name -> module, imported on first use: torch costs seconds
    "MaskpackError": "errors",
    "Pack": "packed",
    "PackedTask": "packed",
    "account": "accounting",
    "apply_image": "applying",
    "attach": "api",
    "classify_image": "applying",
    "decathlon_score": "decathlon",
    "describe": "report",
    "fit": "api",
    "from_checkpoint": "api",
    "from_module": "backbones",
    "load": "api",
    "open_backbone": "resolve",
    "pack": "api",
    "read": "api",
    "run_suite": "suites.running",
    "score_task": "score",
    "suite_results": "suites.running",
    "switch": "api",
    "write_report": "reporting",
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
