"""What torch.save writes, read without torch and without running anything of it.

A pickle is a program. Its opcodes are listed first, without running any; one that is not among
those torch.save writes, or a global outside a short list, refuses the file. What is left is
unpickled: modules become bags of attributes, tensors become descriptions, whose bytes are then
read with every bound checked.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # what torch.save wrote first before 1.6
DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
SETS = ("__builtin__.set", "builtins.set")
TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
WRAPPERS = (  # of a tensor, which they stand for
    "torch.autograd.variable.Variable",
    "torch.autograd.Variable",
    "torch.nn.parameter.Parameter",
)
OPCODES = (
    "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINSTRING "
    "SHORT_BINSTRING BINUNICODE EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_DICT SETITEM SETITEMS BINGET LONG_BINGET BINPUT LONG_BINPUT POP POP_MARK GLOBAL REDUCE "
    "BUILD NEWOBJ BINPERSID"
)
KNOWN = frozenset(OPCODES.split())


class Refused(Exception):
    """A pickle that would run something."""


# ---- the two containers of torch.save


@dataclass(frozen=True)
class Listing:
    """What a pickle would do: globals it names, texts it holds, the first opcode unheard of."""

    globals: list[str]
    texts: set[str]
    odd: str


@dataclass(frozen=True)
class Archive:
    """A file of torch.save: its pickle, and what reads its storages (dtype and length by key)."""

    pickle: bytes
    listing: Listing
    storages: Callable[[Mapping[str, tuple[str, int]]], dict[str, Array]]

    def load(self, inert: tuple[str, ...]) -> tuple[Any, Storages]:
        """The object, and the bytes of its tensors.

        Classes whose dotted names begin with one of `inert` become bags.

        Raises:
            Refused: it names anything else; nothing was unpickled.
            Exception: whatever a damaged pickle makes of the bags.
        """
        for name in self.listing.globals:
            if _stand_in(name, inert, {}) is None:
                raise Refused(f"names {name}, which is not run")
        if self.listing.odd:
            raise Refused(f"has {self.listing.odd}, which torch.save never writes")
        unpickler = _Unpickler(self.pickle, inert)
        content = unpickler.load()
        return content, Storages(self.storages(unpickler.counts))


def open_archive(path: Path) -> Archive | None:
    """The file's parts; None where it is neither of torch.save's two containers."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        return _open_zip(path)
    return _open_legacy(path) if start[:1] == b"\x80" else None


def _open_zip(path: Path) -> Archive | None:
    with zipfile.ZipFile(path) as file:
        entries = {entry.filename: entry for entry in file.infolist()}
    name = next((name for name in entries if name.endswith("/data.pkl")), None)
    if name is None:
        return None
    root = name.removesuffix("data.pkl")

    def read(entry: str) -> bytes:
        # torch compresses nothing, so a file cannot be made to unfold to more than it is
        if entries[entry].compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{entry} is compressed")
        with zipfile.ZipFile(path) as file:
            return file.read(entry)

    def storages(wanted: Mapping[str, tuple[str, int]]) -> dict[str, Array]:
        if f"{root}byteorder" in entries and read(f"{root}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
        return {
            key: np.frombuffer(read(f"{root}data/{key}"), dtype, count)
            for key, (dtype, count) in wanted.items()
        }

    pickled = read(name)
    return Archive(pickled, _list(io.BytesIO(pickled)), storages)


def _open_legacy(path: Path) -> Archive | None:
    """Pickles of a magic number, a version, the system, the object and the storages' keys one
    after another; then each storage in the keys' order, its length (int64) first."""
    with path.open("rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        parts, listings = [], []
        for _ in range(5):
            start = file.tell()
            listings.append(_list(file))
            parts.append(whole[start : file.tell()])
            if len(parts) == 1 and _plain(parts[0], listings[0]) != LEGACY_MAGIC:
                return None
        end = file.tell()
    keys = _plain(parts[4], listings[4])

    def storages(wanted: Mapping[str, tuple[str, int]]) -> dict[str, Array]:
        found, place = {}, end
        for key in keys:
            dtype, count = wanted[key]
            if int.from_bytes(whole[place : place + 8], "little") != count:
                raise ValueError(f"storage {key} has another length than its tensors say")
            found[key] = np.frombuffer(whole, dtype, count, place + 8)
            place += 8 + found[key].nbytes
        return found

    return Archive(parts[3], listings[3], storages)


def _list(file: IO[bytes]) -> Listing:
    """What the pickle that begins here would do; the file is left behind its end."""
    names, texts, odd = [], set(), ""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name == "GLOBAL":
            names.append(str(argument).replace(" ", "."))
        elif isinstance(argument, str):
            texts.add(argument)
        # a memo is filled one by one: a large place in it is only there to waste memory
        far = opcode.name == "LONG_BINPUT" and (argument or 0) > count
        if not odd and (opcode.name not in KNOWN or far):
            odd = f"the opcode {opcode.name}"
    return Listing(names, texts, odd)


def _plain(pickled: bytes, listing: Listing) -> Any:
    """A pickle of numbers and texts alone."""
    if listing.globals or listing.odd:
        raise ValueError("its frame names code")
    return pickle.loads(pickled, encoding="latin1")


# ---- unpickling without running anything


class Bag:
    """An object of a class that is not imported: what its state held."""

    kind = ""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.fields: dict[str, Any] = {}

    def __new__(cls, *_: Any, **__: Any) -> Bag:
        bag = super().__new__(cls)
        bag.fields = {}  # NEWOBJ does not call __init__
        return bag

    def __setstate__(self, state: Any) -> None:
        self.fields = state if isinstance(state, dict) else {}

    def __getitem__(self, name: str) -> Any:
        """An attribute of a module: its parameters, buffers and children are in tables."""
        for table in ("_parameters", "_buffers", "_modules"):
            if name in self.fields.get(table, {}):
                return self.fields[table][name]
        return self.fields.get(name)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where a tensor lies: storage, first item, sides and strides in items."""

    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Whether a Variable wanted a gradient: of no interest."""


@dataclass(frozen=True, slots=True)
class _Storage:
    """What the pickle says of a storage; a view of another begins at an offset in it."""

    key: str
    offset: int = 0


class _Call:
    """A function that a pickle may call. No attribute can be set on it, nor on its code."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(name)

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("a function has no state")


class _Unpickler(pickle.Unpickler):
    """Loads a pickle whose globals were all looked at; `counts` has dtype and length by storage."""

    def __init__(self, pickled: bytes, inert: tuple[str, ...]) -> None:
        super().__init__(io.BytesIO(pickled), encoding="latin1")
        self.inert = inert
        self.counts: dict[str, tuple[str, int]] = {}
        self.classes: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        found = _stand_in(f"{module}.{name}", self.inert, self.classes)
        if found is None:
            raise pickle.UnpicklingError(f"names {module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "module":  # a class and its source text, once a class
            return pid[1]
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or type(count) is not int or not isinstance(key, str):
            raise pickle.UnpicklingError("a storage is not described as one")
        self.counts[key] = (dtype, count)
        return _Storage(key, view[0][1] if view and view[0] else 0)


def _stand_in(name: str, inert: tuple[str, ...], classes: dict[str, Any]) -> Any:
    """What a global becomes: None where it is not allowed. Classes are made once a file."""
    module, _, last = name.rpartition(".")
    if name == "collections.OrderedDict":
        return OrderedDict
    if name in SETS:
        return set
    if name == "torch.Size":
        return _Call(lambda *sides: tuple(*sides))
    if name in TENSORS:
        return _Call(_tensor)
    if name == "torch._utils._rebuild_parameter":
        return _Call(lambda tensor, *_: tensor)
    if name in WRAPPERS:
        return classes.setdefault(name, type(last, (_Wrapper,), {}))
    if module in ("torch", "torch.cuda") and last in DTYPES:
        return DTYPES[last]
    if name.startswith(inert):
        return classes.setdefault(name, type(last, (Bag,), {"kind": name}))
    return None


class _Wrapper:
    """A Variable or Parameter of a tensor: the tensor itself."""

    def __new__(cls, tensor: Any = None, *_: Any) -> Any:
        return tensor


def _tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor has no storage")
    return _Tensor(storage.key, storage.offset + offset, tuple(shape), tuple(strides))


class Storages:
    """The bytes behind tensors, read with every bound checked."""

    def __init__(self, storages: Mapping[str, Array]) -> None:
        self.storages = storages

    def array(self, tensor: Any) -> Array:
        """A tensor's values, in C order.

        Raises:
            ValueError: it is no tensor, or reaches beyond its storage.
        """
        if not isinstance(tensor, _Tensor):
            raise ValueError(f"a {type(tensor).__name__} stands where a tensor should")
        items, sides, strides = self.storages[tensor.key], tensor.shape, tensor.strides
        numbers = (tensor.offset, *sides, *strides)
        if len(sides) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("a tensor's shape is none")
        last = sum((side - 1) * stride for side, stride in zip(sides, strides, strict=True))
        size = math.prod(sides)
        if size and (size > items.size or tensor.offset + last >= items.size):
            raise ValueError("a tensor reaches beyond its storage")
        if not size:
            return np.zeros(sides, items.dtype)
        steps = tuple(stride * items.itemsize for stride in strides)
        view = np.lib.stride_tricks.as_strided(items[tensor.offset :], sides, steps)
        return np.ascontiguousarray(view)
