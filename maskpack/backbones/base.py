"""A backbone: a network, which of its layers is the head, and the fingerprint of all the rest."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from maskpack.common.errors import BackboneError, UnknownName
from maskpack.common.preprocess import Preprocess

# BatchNorm's step counter: changes no output, and old files do not have it.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen network. The fingerprint is of the weights it was opened with."""

    name: str  # open_backbone(name) opens it again
    module: nn.Module  # whole, with its original last layer; float32, CPU, eval mode
    head: str  # dotted name of the last layer: "fc", "classifier.6", "heads.head"
    preprocess: Preprocess
    fingerprint: str  # sha256, hex: the root over `hashes`
    hashes: Mapping[str, str] = field(default_factory=dict)  # sha256 of each tensor, by name
    source: str = ""  # where the weights came from, for people
    # names of modules by part ("encoder", "blocks", "decoder"); a classifier has none
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, without the head and BatchNorm's step counters.

        The tensors are the module's own, not copies.
        """
        return backbone_state(self.module, self.head)

    @property
    def size_bytes(self) -> int:
        """Bytes of `state()`, each tensor counted once however many names it has."""
        distinct = {tensor.data_ptr(): tensor for tensor in self.state().values()}
        return sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())

    @property
    def head_bytes(self) -> int:
        """Size of its own last layer as a float32 checkpoint."""
        head = self.module.get_submodule(self.head).state_dict().values()
        return sum(4 * tensor.numel() for tensor in head)


def make_backbone(
    name: str,
    module: nn.Module,
    preprocess: Preprocess,
    head: str | None = None,
    source: str = "",
    parts: Mapping[str, tuple[str, ...]] | None = None,
) -> Backbone:
    """Find or check the head, bring the module to float32, CPU and eval mode, fingerprint it.

    `parts` are the network's, as `Backbone.parts`.
    """
    for key, tensor in module.state_dict(keep_vars=True).items():
        if torch.nn.parameter.is_lazy(tensor):
            raise BackboneError(
                f"backbone {name}: {key} has no shape yet; run one picture through the network "
                f"before handing it over"
            )
        if tensor.is_meta:
            raise BackboneError(
                f"backbone {name}: {key} is on the meta device and has no values; "
                f"build the network on the CPU"
            )
    found = find_head(module) if head is None else _check_head(module, head)
    module.to("cpu", torch.float32).eval()
    state = backbone_state(module, found)
    if not state:
        raise BackboneError(f"backbone {name}: has no weights besides its head {found!r}")
    hashes = tensor_hashes(state)
    inside = {part: tuple(names) for part, names in (parts or {}).items()}
    return Backbone(name, module, found, preprocess, root_hash(hashes), hashes, source, inside)


def backbone_state(module: nn.Module, head: str) -> dict[str, Tensor]:
    """The module's tensors by name, without the head's and without step counters."""
    return {
        name: tensor
        for name, tensor in module.state_dict().items()
        if not name.startswith(f"{head}.") and not _is_counter(name)
    }


def tensor_hash(tensor: Tensor) -> str:
    """sha256 of one line of text (dtype, shape) and the values, little-endian in C order.

    The line is `float32 [64,3,7,7]` and a line feed; a scalar's shape is `[]`. The memory format
    (channels_last) and the device make no difference.
    """
    dtype = str(tensor.dtype).removeprefix("torch.")
    shape = json.dumps(list(tensor.shape), separators=(",", ":"))
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "big":
        flat = flat.reshape(-1, tensor.element_size())[:, ::-1].copy()
    return hashlib.sha256(f"{dtype} {shape}\n".encode() + flat.tobytes()).hexdigest()


def tensor_hashes(state: Mapping[str, Tensor]) -> dict[str, str]:
    """`tensor_hash` of every tensor that counts, by name, sorted; step counters do not count."""
    return {name: tensor_hash(state[name]) for name in sorted(state) if not _is_counter(name)}


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """One sha256 over the tensors of a backbone, to be had from `Backbone.state()`.

    The recipe, for other programs: leave out the head (all names that begin with its name and a
    dot) and every `num_batches_tracked`; sort the rest by name (bytes of UTF-8); per tensor write
    `tensor_hash`, two spaces, the name and a line feed, as the sha256sum command does; the
    fingerprint is the sha256 of that text, in hex.
    """
    return root_hash(tensor_hashes(state))


def root_hash(hashes: Mapping[str, str]) -> str:
    """The fingerprint that belongs to a table of tensor hashes by name."""
    text = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(text.encode()).hexdigest()


def find_head(module: nn.Module) -> str:
    """Dotted name of the last Linear in module order, or of a 1x1 convolution that ends it all.

    The second is SqueezeNet's way of classifying.
    """
    layers = {name: layer for name, layer in module.named_modules() if name}
    linear = [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]
    if linear:
        return linear[-1]
    weighted = [name for name, layer in layers.items() if [*layer.parameters(recurse=False)]]
    if weighted:
        last = layers[weighted[-1]]
        if isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1) and last.groups == 1:
            return weighted[-1]
    raise BackboneError(
        f"{type(module).__name__}: no last layer found (a Linear, or a final 1x1 convolution); "
        f"say which it is with --head NAME"
    )


def replace_head(module: nn.Module, head: str, outputs: int, *, seed: int = 0) -> nn.Module:
    """Put a new last layer with `outputs` classes into `module`, and return the module.

    Same kind, input width, bias, device and dtype as the old one; values as torch draws them for
    a new layer, from `seed` alone. The module's `num_classes`, where it has one, follows.
    """
    old = module.get_submodule(_check_head(module, head))
    new: nn.Module
    with seeded(seed):
        if isinstance(old, nn.Conv2d):
            new = nn.Conv2d(
                old.in_channels,
                outputs,
                old.kernel_size,  # type: ignore[arg-type]  # torch stores what it was given
                old.stride,  # type: ignore[arg-type]
                old.padding,  # type: ignore[arg-type]
                old.dilation,  # type: ignore[arg-type]
                bias=old.bias is not None,
                padding_mode=old.padding_mode,
                device="cpu",
            )
        else:
            assert isinstance(old, nn.Linear)  # _check_head knows no third kind
            new = nn.Linear(old.in_features, outputs, bias=old.bias is not None, device="cpu")
    parent, _, leaf = head.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new.to(old.weight).train(old.training))
    if isinstance(getattr(module, "num_classes", None), int):
        module.num_classes = outputs  # type: ignore[assignment]  # SqueezeNet's, timm's
    return module


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from `seed` inside, the caller's own sequence unbroken afterwards.

    Only the CPU's generator: torch.manual_seed would reset every accelerator's too.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == COUNTER


def _check_head(module: nn.Module, head: str) -> str:
    """`head` if it names a layer that can be replaced by one with other outputs."""
    layers = {name: layer for name, layer in module.named_modules() if name}
    fitting = [
        name
        for name, layer in layers.items()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    ]
    if head in fitting:
        return head
    if head not in layers:
        # The head is near the end, and a long network has hundreds of layers.
        raise UnknownName("head", head, fitting[-8:])
    inside = [name for name in fitting if name.startswith(f"{head}.")]
    raise BackboneError(
        f"head {head!r} is a {type(layers[head]).__name__}, and must be a Linear or a Conv2d"
        + (f"; inside it: {', '.join(inside)}" if inside else "")
    )
