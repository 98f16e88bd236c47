"""Unpickling without running anything: modules become bags of attributes, tensors descriptions."""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

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


class Unpickler(pickle.Unpickler):
    """Loads a pickle whose globals were all looked at; `counts` has dtype and length by storage."""

    def __init__(self, pickled: bytes, inert: tuple[str, ...]) -> None:
        super().__init__(io.BytesIO(pickled), encoding="latin1")
        self.inert = inert
        self.counts: dict[str, tuple[str, int]] = {}
        self.classes: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        found = stand_in(f"{module}.{name}", self.inert, self.classes)
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


def stand_in(name: str, inert: tuple[str, ...], classes: dict[str, Any]) -> Any:
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
