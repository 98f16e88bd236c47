"""Weight files: read without running anything in them, and fitted strictly."""

from __future__ import annotations

import argparse
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from maskpack.backbones import WEIGHT_SUFFIXES
from maskpack.backbones.base import COUNTER
from maskpack.common.errors import BackboneError

# Where training scripts keep the tensors inside a checkpoint. An averaged copy comes first: it is
# the one whose accuracy was published (timm chooses in the same order).
NESTS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net")
DEPTH = 3  # tables within tables; a hostile pickle can hold one that contains itself
# What wrappers put before every name: DataParallel, torch.compile.
WRAPPERS = ("module.", "_orig_mod.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name: .safetensors, or .pth/.pt/.bin/.tar/.ckpt of tensors.

    A checkpoint with more in it gives its state dict (NESTS), and wrappers' prefixes are taken
    off. A pickle that would have to run code is refused.
    """
    path = Path(path)
    if not path.is_file():
        raise BackboneError(f"{path}: no such file of weights")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise BackboneError(
            f"{path}: weights are read from {', '.join(WEIGHT_SUFFIXES)} files, not {path.suffix!r}"
        )
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    for _ in range(DEPTH):
        nest = next((key for key in NESTS if isinstance(_get(content, key), Mapping)), None)
        content = content if nest is None else content[nest]
    if not isinstance(content, Mapping):
        raise BackboneError(
            f"{path}: holds a {type(content).__name__}, and a table of tensors by name is "
            f"expected; save module.state_dict()"
        )
    if not content:
        raise BackboneError(f"{path}: holds no tensors")
    odd = [key for key, value in content.items() if not _is_dense(key, value)]
    if "n_averaged" in content and "n_averaged" not in odd:
        content = OrderedDict((k, v) for k, v in content.items() if k != "n_averaged")
    if odd:
        raise BackboneError(
            f"{path}: a table of dense tensors by name is expected, and {_some(map(str, odd))} "
            f"is something else; save module.state_dict()"
        )
    return _unwrap(content)


def fit_weights(module: nn.Module, state: Mapping[str, Tensor], head: str, where: str) -> None:
    """Copy `state` into `module`; everything but the head must be there and fit.

    The head's tensors are taken where they fit and left alone where not. BatchNorm's step
    counters may be missing. `where` (a file, usually) begins each error. After an error the
    module may be half filled: drop it.
    """
    own = module.state_dict()
    fitting = OrderedDict(
        (name, tensor)
        for name, tensor in state.items()
        if not (_in_head(name, head) and (name not in own or own[name].shape != tensor.shape))
    )
    misshaped = [
        f"{name} is {_shape(tensor)} and should be {_shape(own[name])}"
        for name, tensor in fitting.items()
        if name in own and own[name].shape != tensor.shape
    ]
    mistyped = [
        f"{name} is {_dtype(tensor)} and should be {_dtype(own[name])}"
        for name, tensor in fitting.items()
        if name in own
        and own[name].is_floating_point() != tensor.is_floating_point()
        and not _optional(name, head)
    ]
    _refuse(where, module, {"with another shape": misshaped, "with another type": mistyped})

    # Layers translate the names of old files by these versions. A file without any (safetensors)
    # is taken for new at the top, where MNASNet insists on one, and for old below.
    versions = getattr(state, "_metadata", None) or {
        "": {"version": getattr(module, "_version", 1)}
    }
    setattr(fitting, "_metadata", versions)  # noqa: B010  # torch's own private attribute
    result = module.load_state_dict(fitting, strict=False)
    _refuse(
        where,
        module,
        {
            "missing": [name for name in result.missing_keys if not _optional(name, head)],
            "not in the network": [n for n in result.unexpected_keys if not _optional(n, head)],
        },
    )
    trained = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name, tensor in module.state_dict().items():
        # Other buffers may be infinite by design, as attention masks are.
        counts = name in trained or name.endswith(("running_mean", "running_var"))
        if counts and not _in_head(name, head) and not torch.isfinite(tensor).all():
            raise BackboneError(
                f"{where}: {name} has values that are NaN or infinite; these weights are damaged, "
                f"or do not cover the whole network"
            )


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BackboneError(f"{path}: is not a whole safetensors file ({error})") from error


def _load_pickle(path: Path) -> Any:
    try:
        # timm and torchvision's training scripts save their options beside the weights, in a
        # Namespace: attributes only, no code.
        allowed = torch.serialization.safe_globals([argparse.Namespace])
        with allowed, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they announce is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can raise anything at all
        text = str(error)
        # "Unsupported global: GLOBAL mynet.Net was not an allowed global", for instance
        named = re.search(r"(?:GLOBAL|class) ([\w.]+\.[\w.]+)", text)
        # Newer pickles (0x80, protocol) stop at an operand that weights never have.
        with path.open("rb") as file:
            foreign = "Unsupported operand" in text and file.read(1) == b"\x80"
        if named or foreign or "TorchScript" in text:
            what = f" ({named[1]})" if named else ""
            raise BackboneError(
                f"{path}: can only be read by running code it names{what}, which is refused; save "
                f"module.state_dict() with torch.save, or as safetensors"
            ) from error
        raise BackboneError(
            f"{path}: is not a whole file of PyTorch weights ({type(error).__name__}); "
            f"fetch it again"
        ) from error


def _get(content: object, key: str) -> object:
    return content.get(key) if isinstance(content, Mapping) else None


def _is_dense(key: object, value: object) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_quantized
    )


def _unwrap(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes that all names share; layer versions survive where none do."""
    versions = getattr(state, "_metadata", None)
    while prefix := next((w for w in WRAPPERS if all(k.startswith(w) for k in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        if versions is not None:
            wrapped = prefix[:-1]
            versions = {
                name.removeprefix(wrapped).removeprefix("."): version
                for name, version in versions.items()
                if name.startswith(wrapped)
            }
    plain = OrderedDict((name, tensor.detach()) for name, tensor in state.items())
    setattr(plain, "_metadata", versions)  # noqa: B010  # torch's own private attribute
    return plain


def _refuse(where: str, module: nn.Module, found: Mapping[str, list[str]]) -> None:
    """Raise one line that counts and names what is wrong, if anything is."""
    parts = [f"{len(names)} {what} ({_some(names)})" for what, names in found.items() if names]
    if parts:
        raise BackboneError(
            f"{where}: does not fit {type(module).__name__}: tensors {'; '.join(parts)}; "
            f"give the weights of this very network"
        )


def _optional(name: str, head: str) -> bool:
    return _in_head(name, head) or name.rpartition(".")[2] == COUNTER


def _in_head(name: str, head: str) -> bool:
    return name.startswith(f"{head}.")


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
