"""How a task's weights come from the backbone's. `METHODS` is the table of contents."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import OptionError, UnknownName
from maskpack.common.options import converted
from maskpack.common.user_code import current_folder

if TYPE_CHECKING:
    from maskpack.methods.base import Method

METHODS = {  # name -> module:class, imported when used: tables and help need no torch
    "piggyback": "maskpack.methods.piggyback:Piggyback",
    "ksm": "maskpack.methods.ksm:KSM",
    "affine": "maskpack.methods.affine:Affine",
    "classifier-only": "maskpack.methods.baselines:ClassifierOnly",
    "fine-tune": "maskpack.methods.baselines:FineTune",
    "scratch": "maskpack.methods.baselines:Scratch",
    "decoder": "maskpack.methods.baselines:Decoder",
    "residual-blocks": "maskpack.methods.baselines:ResidualBlocks",
    "tall": "maskpack.methods.tall:Tall",
    "lora": "maskpack.methods.lora:LoRA",
    "ewc": "maskpack.methods.sequences.ewc:EWC",
    "mas": "maskpack.methods.sequences.mas:MAS",
    "lwf": "maskpack.methods.sequences.lwf:LwF",
    "lwm": "maskpack.methods.sequences.lwm:LwM",
    "packnet": "maskpack.methods.sequences.packnet:PackNet",
    "cpg": "maskpack.methods.sequences.cpg:CPG",
}
FITTED = ("tall",)  # made of fine-tuned networks by `pack --from-checkpoint`, never trained
TRAINED = tuple(name for name in METHODS if name not in FITTED)


def method_class(name: str) -> type[Method]:
    """The class of a method by name, or by module:Class for one of the user's own.

    Raises:
        UnknownName: neither a known method nor an importable class.
    """
    from maskpack.methods.base import Method

    target = METHODS.get(name, name)
    module, _, attribute = target.partition(":")
    if not attribute:
        raise UnknownName("method", name, METHODS, "or module:Class for your own")
    try:
        with current_folder():
            found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a user's module can raise anything while it is imported
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OptionError(f"method {name!r} cannot be imported: {reason}") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise OptionError(f"method {name!r} is not a subclass of maskpack.methods.base.Method")
    if inspect.isabstract(found) or not dataclasses.is_dataclass(found):
        missing = ", ".join(sorted(found.__abstractmethods__)) or "@dataclass(frozen=True)"
        raise OptionError(f"method {name!r} lacks {missing}")
    return found


def make(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """A method with its options, which may be text as on a command line.

    Raises:
        UnknownName: no such method or option.
        OptionError: a value does not fit its option.
    """
    kind = method_class(name)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {}
    for key, value in (options or {}).items():
        if key not in fields:
            raise UnknownName(f"option of {name}", key, fields)
        values[key] = converted(key, value, fields[key].default)
    return kind(**values)


def name_of(method: Method) -> str:
    """The name by which `make` makes such a method: what a pack's header keeps."""
    target = f"{type(method).__module__}:{type(method).__qualname__}"
    return next((name for name, known in METHODS.items() if known == target), target)


def options_of(method: Method) -> dict[str, Any]:
    """Every option of a method with its value: what a pack's header keeps."""
    return dataclasses.asdict(method)  # type: ignore[call-overload]
