"""What torch.save writes, read without torch and without running anything of it.

A pickle is a program. Its opcodes are listed first, without running any; one that is not among
those torch.save writes, or a global outside a short list, refuses the file. What is left is
unpickled by `stand_ins`.
"""

from __future__ import annotations

import io
import mmap
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from maskpack.packing.convert.stand_ins import Array, Storages, Unpickler, stand_in

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # what torch.save wrote first before 1.6
OPCODES = (
    "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINSTRING "
    "SHORT_BINSTRING BINUNICODE EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_DICT SETITEM SETITEMS BINGET LONG_BINGET BINPUT LONG_BINPUT POP POP_MARK GLOBAL REDUCE "
    "BUILD NEWOBJ BINPERSID"
)
KNOWN = frozenset(OPCODES.split())
MOST_TUPLES = 50_000  # a network has some thousands; millions, nested, overflow the stack in hash()


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
            if stand_in(name, inert, {}) is None:
                raise Refused(f"names {name}, which is not run")
        if self.listing.odd:
            raise Refused(f"has {self.listing.odd}, which torch.save never writes")
        unpickler = Unpickler(self.pickle, inert)
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
    names, texts, odd, tuples = [], set(), "", 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name == "GLOBAL":
            names.append(str(argument).replace(" ", "."))
        elif isinstance(argument, str):
            texts.add(argument)
        tuples += opcode.name.startswith("TUPLE")
        # a memo is filled one by one: a large place in it is only there to waste memory
        far = opcode.name == "LONG_BINPUT" and (argument or 0) > count
        if not odd and (opcode.name not in KNOWN or far):
            odd = f"the opcode {opcode.name}"
    if tuples > MOST_TUPLES:
        odd = odd or f"{tuples} tuples"
    return Listing(names, texts, odd)


def _plain(pickled: bytes, listing: Listing) -> Any:
    """A pickle of numbers and texts alone."""
    if listing.globals or listing.odd:
        raise ValueError("its frame names code")
    return pickle.loads(pickled, encoding="latin1")
