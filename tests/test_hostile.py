"""Files that are truncated, flipped or lying: one clear line, and never anything else."""
# ruff: noqa: E501 - a table of lies is read line by line

from __future__ import annotations

import copy
import json
import math
import pickle
import random
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from tinynet import TinyNet, write_pictures
from torch import nn

import maskpack
from maskpack.backbones import from_module
from maskpack.common.errors import BackboneError, MaskpackError, PackFormatError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.evaluation.task_row import score_task
from maskpack.packs.contents import Pack
from maskpack.packs.file import (
    BACKBONE_HASHES,
    HEADER,
    KEY,
    LARGEST_HEADER,
    STREAM_HASHES,
    read,
    write,
)
from maskpack.reports.describe import describe
from maskpack.runs.open import recoded
from maskpack.tasks import open_task

OUTPUTS = 3
Header = dict[str, Any]
Tensors = dict[str, np.ndarray[Any, Any]]


@cache
def network() -> nn.Module:
    torch.manual_seed(0)
    return TinyNet().eval()


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of three tasks with every kind of stream, for `network()`."""
    backbone = from_module(network(), "tinynet:build")
    tasks = {}
    for name, method, options in (
        ("birds", "piggyback", {}),
        ("cars", "ksm", {"coefficients": "u8"}),
        ("owls", "piggyback", {}),
    ):
        masked = maskpack.attach(backbone, OUTPUTS, method, norms="task", **options)
        with torch.no_grad():
            for i, parameter in enumerate(masked.params.parameters()):
                generator = torch.Generator().manual_seed(i)
                parameter.copy_(0.02 * torch.rand(parameter.shape, generator=generator) - 0.01)
                if name == "owls":  # few zeros: its mask is worth coding
                    parameter.clamp_(min=0.0052).view(-1)[: i + 1] = 0
        tasks[name] = masked
    path = tmp_path_factory.mktemp("sound") / "zoo.safetensors"
    plain = maskpack.pack(tasks, path)
    coded = recoded(plain, coded=True).task("owls")
    assert coded.streams["mask"].coded
    write(path, Pack(plain.backbone, {**plain.tasks, "owls": coded}))
    return path


def load_all(path: Path) -> None:
    """Everything a reader does with a file."""
    pack = read(path)
    describe(pack)
    for name, task in pack.tasks.items():
        for key in task.streams:
            task.arrays(key)
        assert all(mask.count() >= 0 for mask in task.masks.values())
        model = maskpack.load(pack, name, backbone=network())
        with torch.no_grad():
            model(torch.zeros(1, 3, 16, 16))


def one_line(error: MaskpackError) -> bool:
    message = str(error)
    return message.isprintable() and 10 < len(message) < 1000


def refused(path: Path) -> str:
    """The one line with which a file is refused while it is read."""
    with pytest.raises(PackFormatError) as caught:
        read(path)
    assert one_line(caught.value), str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def refused_at_load(path: Path) -> str:
    """The one line with which a file is refused when a task of it is loaded, if not before."""
    with pytest.raises(MaskpackError) as caught:
        load_all(path)
    assert one_line(caught.value), str(caught.value)
    return str(caught.value)


def take_apart(path: Path) -> tuple[Header, Tensors]:
    """Header and tensors; shared objects back in their places, hashes of streams left out."""
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()[KEY])  # the format's number
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    header |= json.loads(zlib.decompress(tensors.pop(HEADER)))
    for name, task in header["tasks"].items():
        for about in (task, task["info"]):
            for key, value in about.items():
                if isinstance(value, dict) and value.keys() == {"="}:
                    about[key] = copy.deepcopy(header["shared"][value["="]])
        for key, stream in task["streams"].items():
            if "tensor" in stream:
                tensors[f"{name}/{key}"] = tensors[stream.pop("tensor")]
    header["shared"] = []
    del tensors[STREAM_HASHES]
    return header, tensors


def forge(path: Path, header: Header | str, tensors: Tensors) -> Path:
    """A file with any header, as `write` would never make it; as many hashes as streams."""
    metadata = {"format": 1}
    if not isinstance(header, str):
        metadata = {key: header[key] for key in ("format",) if key in header}
        header = json.dumps({key: value for key, value in header.items() if key != "format"})
    if HEADER not in tensors:
        tensors = {**tensors, HEADER: np.frombuffer(zlib.compress(header.encode()), np.uint8)}
    if STREAM_HASHES not in tensors:
        count = sum(key.count("/") == 1 and not key.startswith("/") for key in tensors)
        tensors = {**tensors, STREAM_HASHES: np.zeros(32 * count, np.uint8)}
    save_file(tensors, path, metadata={KEY: json.dumps(metadata)})
    return path


# ---- the container


def test_the_sound_file_loads(sound: Path, tmp_path: Path) -> None:
    load_all(sound)
    load_all(forge(tmp_path / "copy", *take_apart(sound)))


def test_files_that_are_no_packs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert refused(path).startswith(": cannot be read: No such file")
    assert refused(tmp_path) == " is a folder; expected a pack"
    path.write_bytes(b"")
    assert refused(path) == " is empty; expected a pack"
    save_file({"x": np.zeros(3)}, path)
    assert "is a safetensors file but not a pack" in refused(path)
    save_file({"x": np.zeros(3)}, path, metadata={"format": "pt"})
    assert "packs are made by `maskpack pack`" in refused(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\0",
        b"hello, world\n" * 3,
        b"\xff" * 100,
        b"PK\x03\x04" + b"\0" * 100,
        pickle.dumps({"mask": [1, 2, 3]}),
        b"\x89PNG\r\n\x1a\n" + b"\0" * 64,
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 6) + b'"\xff\xfe"' + b"\0" * 8,
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    refused(tmp_path / "file")


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    torch.save({"mask": Trap()}, tmp_path / "pack.pt")
    refused(tmp_path / "pack.pt")
    assert not (tmp_path / "sprung").exists()


def container(entries: dict[str, Any] | str, payload: bytes) -> bytes:
    text = (entries if isinstance(entries, str) else json.dumps(entries)).encode()
    return struct.pack("<Q", len(text)) + text + payload


def test_a_container_with_holes_or_doubled_names_is_refused(sound: Path, tmp_path: Path) -> None:
    whole = sound.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    entries, payload = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    path = tmp_path / "forged"

    path.write_bytes(container(entries, payload + b"\0"))
    refused(path)
    path.write_bytes(container(entries, payload))
    load_all(path)  # not padded to 8 bytes: odd, and yet sound

    first = next(key for key in entries if key != "__metadata__")
    for lie in ([0, 1 << 63], [5, 1], [1, 2], [0, 0], [-1, 3], [0.0, 8.0]):
        path.write_bytes(
            container(entries | {first: entries[first] | {"data_offsets": lie}}, payload)
        )
        refused(path)

    # the same name twice, the last with offsets of its own: readers must not disagree
    doubled = (
        json.dumps(entries)[:-1]
        + f', "{first}": '
        + json.dumps({"dtype": "U8", "shape": [1], "data_offsets": [0, 1]})
    )
    path.write_bytes(container(doubled + "}", payload))
    refused_at_load(path)


# ---- truncated and flipped


def test_a_truncated_file_is_refused_at_every_length(sound: Path, tmp_path: Path) -> None:
    whole = sound.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    path = tmp_path / "cut"
    rng = random.Random(0)
    sizes = {*range(20), length, 7 + length, 8 + length, 9 + length, len(whole) - 1}
    sizes |= {rng.randrange(len(whole)) for _ in range(100)}
    for size in sizes:
        path.write_bytes(whole[:size])
        refused(path)
    path.write_bytes(whole + b"\0")
    refused(path)


def test_flipped_bits_are_refused_or_harmless(sound: Path, tmp_path: Path) -> None:
    """Every byte of the header's first part, a sample of the rest and of the content."""
    whole = sound.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(1)
    places = [
        *range(40),
        *rng.sample(range(40, header), 200),
        *rng.sample(range(header, len(whole)), 100),
    ]
    path = tmp_path / "flipped"
    caught = 0
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            load_all(path)
        except MaskpackError as error:
            assert one_line(error), str(error)
            caught += 1
    assert caught > 100


def test_random_damage_never_gives_another_error(sound: Path, tmp_path: Path) -> None:
    whole = sound.read_bytes()
    rng = random.Random(2)
    tokens = [
        b"0",
        b"-1",
        b"null",
        b"[]",
        b"{}",
        b"1e9",
        b'""',
        b"true",
        b"9" * 40,
        b"\\u0000",
        b",",
    ]
    path = tmp_path / "damaged"
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            kind, place = rng.randrange(5), rng.randrange(len(data))
            if kind == 0:
                data[place] = rng.randrange(256)
            elif kind == 1:
                del data[place : place + rng.randint(1, 20)]
            elif kind == 2:
                data[place:place] = rng.choice(tokens)
            elif kind == 3:
                other = rng.randrange(len(data))
                data[place : place + 8] = data[other : other + 8]
            else:
                data[place : place + 1] = rng.choice(tokens)
        if rng.random() < 0.7:  # a length that is right lets the damage go deeper
            text = bytes(data[8:]).partition(b"\0" * 8)[0]
            data[:8] = struct.pack("<Q", min(max(text.rfind(b"}}") + 2, 0), len(data)))
        path.write_bytes(data)
        try:
            load_all(path)
        except MaskpackError as error:
            assert one_line(error), str(error)


JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 7, 10**6, 1 << 40, 1 << 70, 10**400, 0.0, 1.5, -2.5, 1e300, "",
    "x", "mask", "head", "f16", "bits", "u8", "fc", "fc.weight", "stem.weight", "\n", "\x1b[2J",
    "\ud800", "a/b", "os:getcwd", ":", ".x:y", "maskpack.methods.base:Method",
    "maskpack.methods.baselines:_Unmasked", "scratch", "piggyback", "affine", "ternary",
    [], [1], [[]], [["x", [1]]], [["stem.weight", [8, 3, 3, 3]]], {}, {"x": 1}, {"table": 0},
    {"name": "x"}, [1, 2, 3], ["a", "b"], "9" * 5000,
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return [path] * bool(path) + [p for key, item in items for p in places(item, (*path, key))]


def test_any_value_anywhere_in_the_header_is_refused_or_harmless(
    sound: Path, tmp_path: Path
) -> None:
    header, tensors = take_apart(sound)
    everywhere = places(header)
    rng = random.Random(3)
    path = tmp_path / "changed"
    for turn in range(400):
        changed = copy.deepcopy(header)
        for _ in range(1 + turn % 2):
            inner: Any = changed
            spot = everywhere[turn] if turn < len(everywhere) else rng.choice(everywhere)
            try:
                for key in spot[:-1]:
                    inner = inner[key]
                kind = rng.randrange(4)
                if kind == 0:
                    del inner[spot[-1]]
                elif kind == 1 and isinstance(inner, dict):
                    inner[str(rng.choice(JUNK))] = inner.pop(spot[-1])
                else:
                    inner[spot[-1]] = rng.choice(JUNK)
            except (KeyError, IndexError, TypeError):
                continue  # the first change took the second's place away
        forge(path, changed, tensors)
        try:
            load_all(path)
        except MaskpackError as error:
            assert one_line(error), str(error)


# ---- lies by hand: the header

Lie = Callable[[Header, Tensors], Any]


def put(value: Any, *path: Any) -> Lie:
    def lie(header: Header, _: Tensors) -> None:
        inner: Any = header
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return lie


def drop(*path: Any) -> Lie:
    def lie(header: Header, _: Tensors) -> None:
        inner: Any = header
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return lie


def shape(value: Any) -> Lie:
    return put(value, "tables", 0, 0, 1)


BOMB = zlib.compress(b" " * (LARGEST_HEADER + 1), 9)
BIRDS = ("tasks", "birds")
MASK = (*BIRDS, "streams", "mask")
OWLS = ("tasks", "owls", "streams", "mask")
SCALE = ("tasks", "cars", "streams", "scale")

HEADERS: list[tuple[str, Lie, str]] = [
    ("too new", put(2, "format"), r"format 2, this maskpack reads 1; update maskpack"),
    ("too old", put(0, "format"), r"format 0, this maskpack reads 1; the file is damaged"),
    ("bool format", put(True, "format"), r"metadata, format: bool, expected int"),
    ("float format", put(1.0, "format"), r"metadata, format: float, expected int"),
    ("no format", drop("format"), r"metadata: 'format' is missing"),
    ("no tables", drop("tables"), r"header: 'tables' is missing"),
    ("no tasks", drop("tasks"), r"header: 'tasks' is missing"),
    ("no backbone", drop("backbone"), r"header: 'backbone' is missing"),
    ("no fingerprint", drop("backbone", "fingerprint"), r"backbone: 'fingerprint' is missing"),
    ("negative size", put(-1, "backbone", "size_bytes"), r"size_bytes is -1, expected 0 to"),
    ("vast size", put(10**300, "backbone", "size_bytes"), r"size_bytes is 1000"),
    ("tasks a list", put([], "tasks"), r"header, tasks: list, expected dict"),
    ("task a number", put(3, *BIRDS), r"birds: int, expected dict"),
    ("no method", drop(*BIRDS, "method"), r"birds: 'method' is missing"),
    ("no streams", drop(*BIRDS, "streams"), r"birds: 'streams' is missing"),
    ("options a list", put([], *BIRDS, "options"), r"birds, options: list, expected dict"),
    ("huge", shape([1 << 60]), r"table 0, .*: \[1152921504606846976\] is not a shape"),
    ("huge in many", shape([1 << 20] * 8), r"is not a shape"),
    ("empty and huge", shape([0, 1 << 63]), r"is not a shape"),
    ("wrong but small", shape([8, 3, 3, 4]), r"values, its table needs|bytes, its table needs"),
    ("one short", shape([8, 3, 3]), r"its table needs"),
    ("large", shape([1 << 47]), r"its table needs"),
    ("negative", shape([8, -3, 3, 3]), r"\[8, -3, 3, 3\] is not a shape"),
    ("float", shape([8.0, 3, 3, 3]), r"is not a shape"),
    ("bool", shape([True, 3, 3, 3]), r"is not a shape"),
    ("text", shape("8x3"), r"8x3 is not a shape"),
    ("null", shape(None), r"None is not a shape"),
    ("many sides", shape([1] * 100), r"is not a shape"),
    ("very many sides", shape([1] * 100_000), r"is not a shape"),
    ("a long number", shape([10**4000]), r"is not a shape"),
    ("table a dict", put({}, "tables", 0), r"table 0: dict, expected list"),
    ("row a name", put("x", "tables", 0, 0), r"table 0: a row is not a name and a shape"),
    ("row of three", put(["x", [1], 2], "tables", 0, 0), r"a row is not a name and a shape"),
    ("name a number", put(1, "tables", 0, 0, 0), r"a row is not a name and a shape"),
    ("name of escapes", put("\x1b[2Jx", "tables", 0, 0, 0), r"'.x1b\[2Jx' is not printable"),
    ("table 99", put(99, *MASK, "table"), r"birds, mask: table 99 of \d"),
    ("table -1", put(-1, *MASK, "table"), r"birds, mask: table -1 of \d"),
    ("table true", put(True, *MASK, "table"), r"birds, mask, table: bool, expected int"),
    ("dtype unknown", put("f64", *MASK, "dtype"), r"unknown dtype 'f64'; known: bits, u8"),
    ("dtype narrower", put("f16", *BIRDS, "streams", "head", "dtype"), r"F32 of shape .*of F16"),
    ("mask of floats", put("f32", *MASK, "dtype"), r"birds, mask: is stored as f32, expected bits"),
    ("zeros of nothing", put("gone", *SCALE, "zeros_of"), r"the zeros of 'gone', which is no bit"),
    ("zeros of itself", put("scale", *SCALE, "zeros_of"), r"the zeros of 'scale', which is no bit"),
    ("zeros of floats", put("head", *SCALE, "zeros_of"), r"the zeros of 'head', which is no bit"),
    ("zeros a number", put(1, *SCALE, "zeros_of"), r"cars, scale: int, expected str"),
    ("coded a number", put(1, *OWLS, "coded"), r"owls, mask, coded: int, expected bool"),
    ("coded floats", put(True, "tasks", "owls", "streams", "head", "coded"), r"only bits can be coded"),
    ("bits of zeros", put("mask", *MASK, "zeros_of"), r"birds, mask: bits have no zeros_of"),
    ("a stream more", put({"table": 0, "dtype": "bits"}, *BIRDS, "streams", "more"),
     r"birds, more: no tensor 'birds/more' in the file"),
    ("a task more", put({}, "tasks", "more"), r"more: 'info' is missing"),
    ("a name with /", put({}, "tasks", "a/b"), r"task name 'a/b': expected printable"),
    ("a stream less", drop(*MASK), r"tensor 'birds/mask' belongs to no task"),
    ("a feature more", put(["coded", "holes"], "features"), "needs holes, which this maskpack cannot read; update it"),
    ("features a word", put("coded", "features"), "features: str, expected list"),
    ("nothing shared", put({"=": 0}, "tasks", "birds", "options"), "birds, options: shared object 0 of 0"),
    ("shared backwards", put({"=": -1}, "tasks", "birds", "info", "best"), "shared object -1 of 0"),
    ("shared by word", put({"=": "a"}, "tasks", "birds", "streams"), "streams: str, expected int"),
    ("no hashes", lambda _, tensors: tensors.pop(BACKBONE_HASHES), "no tensor '/backbone'"),
    ("half a hash", lambda _, tensors: tensors.update({BACKBONE_HASHES: np.zeros(33, np.uint8)}), "/backbone: 33 bytes, expected 2 a hash"),
    ("hashes of another type", lambda _, tensors: tensors.update({STREAM_HASHES: np.zeros(8, np.float32)}), "/streams: F32, expected U8"),
    ("a hash less", lambda _, tensors: tensors.update({STREAM_HASHES: np.zeros(32, np.uint8)}), "fewer hashes than streams"),
    ("a hash more", lambda _, tensors: tensors.update({STREAM_HASHES: np.zeros(3200, np.uint8)}), "more hashes than streams"),
    ("no header", lambda _, tensors: tensors.update({HEADER: np.zeros(0, np.uint8)}), "/header: longer than 67108864 bytes, or cut"),
    ("a header of noise", lambda _, tensors: tensors.update({HEADER: np.full(9, 7, np.uint8)}), "/header: Error -3"),
    ("a header and more", lambda _, tensors: tensors.update({HEADER: np.frombuffer(zlib.compress(b"{}") + b"x", np.uint8)}), "/header: longer than"),
    ("a header of zeros", lambda _, tensors: tensors.update({HEADER: np.frombuffer(BOMB, np.uint8)}), "/header: longer than"),
    ("the header's own tensor", put("/header", *MASK, "tensor"), "birds, mask: no tensor '/header'"),
    ("another's tensor", put("owls/head", *MASK, "tensor"), "expected one dimension of U8"),
    ("a tensor's number", put(1, *MASK, "tensor"), "birds, mask, tensor: int, expected str"),
    ("a rank of bits", put(3, *MASK, "rank"), "bits, rank 3; only quantized values have a rank"),
    ("a rank below 0", put(-3, *BIRDS, "streams", "head", "rank"), "f32, rank -3"),
    ("a head added", put(True, *BIRDS, "streams", "head", "delta"), "cannot be a difference"),
    ("a task less", drop(*BIRDS), r"tensor 'birds/.*' belongs to no task"),
]  # fmt: skip


@pytest.mark.parametrize(("lie", "found"), [pytest.param(*row[1:], id=row[0]) for row in HEADERS])
def test_a_lying_header_is_refused(sound: Path, tmp_path: Path, lie: Lie, found: str) -> None:
    header, tensors = take_apart(sound)
    lie(header, tensors)
    assert re.search(found, message := refused(forge(tmp_path / "lie", header, tensors))), message


def test_zeros_of_a_mask_with_another_table_are_refused(sound: Path, tmp_path: Path) -> None:
    header, tensors = take_apart(sound)
    header["tasks"]["cars"]["streams"]["scale"]["table"] = header["tasks"]["cars"]["streams"][
        "head"
    ]["table"]
    assert "which is no bit stream with the same table" in refused(
        forge(tmp_path / "lie", header, tensors)
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "header is not JSON"),
        ("{", "header is not JSON"),
        ("[]", "header: list, expected dict"),
        ("null", "header: NoneType, expected dict"),
        ('{"format": NaN}', "NaN is not JSON"),
        ('{"format": -Infinity}', "-Infinity is not JSON"),
        ('{"format": ' + "9" * 5000 + "}", "header is not JSON"),
        ("[" * 200_000, "header is not JSON"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "header is not JSON"),
        ('{"format": 1, "format": 1}', "a name stands twice"),
    ],
)
def test_a_header_that_is_no_json_object_is_refused(tmp_path: Path, text: str, found: str) -> None:
    assert found in refused(forge(tmp_path / "lie", text, {}))


def test_a_task_that_stands_twice_is_refused(sound: Path, tmp_path: Path) -> None:
    header, tensors = take_apart(sound)
    text = json.dumps(header).replace('"tasks": {', '"tasks": {"birds": {}, ')
    assert "a name stands twice" in refused(forge(tmp_path / "lie", text, tensors))
    header["tables"][0].append(header["tables"][0][0])
    assert "table 0: a name stands twice" in refused(forge(tmp_path / "lie", header, tensors))


@pytest.mark.parametrize("lie", [shape([1 << 47]), shape([1 << 60]), shape([0, 1 << 47])])
def test_a_huge_shape_costs_no_memory(sound: Path, tmp_path: Path, lie: Lie) -> None:
    header, tensors = take_apart(sound)
    lie(header, tensors)
    path = forge(tmp_path / "lie", header, tensors)
    refused_at_load(sound.with_name("none"))  # imports are no part of what is measured
    tracemalloc.start()
    try:
        refused_at_load(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


# ---- lies by hand: the tensors


def swap(key: str, change: Callable[[Any], Any]) -> Lie:
    def lie(_: Header, tensors: Tensors) -> None:
        tensors[key] = np.ascontiguousarray(change(tensors[key]))

    return lie


TENSORS: list[tuple[str, Lie, str]] = [
    ("missing", lambda _, t: t.pop("birds/mask"), r"no tensor 'birds/mask' in the file"),
    ("one more", lambda _, t: t.update(x=t["birds/mask"]), r"tensor 'x' belongs to no task"),
    ("signed", swap("birds/mask", lambda a: a.astype("i1")), r"I8 of shape .*dimension of U8"),
    ("double", swap("birds/head", lambda a: a.astype("f8")), r"F64 of shape .*dimension of F32"),
    ("two sides", swap("birds/mask", lambda a: a.reshape(2, -1)), r"expected one dimension of U8"),
    ("no side", swap("birds/mask", lambda a: a[:0].reshape(0, 9)), r"U8 of shape \[0, 9\], expected one"),
    ("short", swap("birds/mask", lambda a: a[:-1]), r"birds, mask: \d+ bytes, its table needs \d+"),
    ("long", swap("birds/head", lambda a: np.append(a, a[:1])), r"values, its table needs \d+"),
    ("empty", swap("birds/head", lambda a: a[:0]), r"birds, head: 0 values, its table needs \d+"),
]  # fmt: skip


@pytest.mark.parametrize(("lie", "found"), [pytest.param(*row[1:], id=row[0]) for row in TENSORS])
def test_lying_tensors_are_refused(sound: Path, tmp_path: Path, lie: Lie, found: str) -> None:
    header, tensors = take_apart(sound)
    lie(header, tensors)
    assert re.search(found, message := refused(forge(tmp_path / "lie", header, tensors))), message


def test_padding_bits_are_refused_when_a_mask_is_read(sound: Path, tmp_path: Path) -> None:
    header, tensors = take_apart(sound)
    add_stream("mask", "bits", "norm2.bias", [12])(header, tensors)
    load_all(forge(tmp_path / "sound", header, tensors))
    tensors["birds/mask"][-1] |= 0b10000
    path = forge(tmp_path / "lie", header, tensors)
    message = "birds, norm2.bias: padding bits after the last mask bit are not zero"
    assert message in refused_at_load(path)
    uses: list[Callable[[Any], Any]] = [
        describe,
        lambda pack: pack.task("birds").masks,
        lambda pack: pack.task("birds").mask("norm2.bias"),
    ]
    for use in uses:
        with pytest.raises(PackFormatError, match="padding bits"):
            use(read(path))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("stream", ["head", "norms"])
def test_values_that_are_no_numbers_are_refused(
    sound: Path, tmp_path: Path, stream: str, value: float
) -> None:
    header, tensors = take_apart(sound)
    tensors[f"birds/{stream}"][1] = value
    message = refused_at_load(forge(tmp_path / "lie", header, tensors))
    assert f"birds, {stream}: a value is NaN or infinite; the file is damaged" in message


@pytest.mark.parametrize(
    "change", [lambda a: a[:-1], lambda a: np.append(a, a[:1]), lambda a: a[:0]]
)
def test_coefficients_must_be_as_many_as_zeros(
    sound: Path, tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    header, tensors = take_apart(sound)
    tensors["cars/scale"] = np.ascontiguousarray(change(tensors["cars/scale"]))
    message = refused_at_load(forge(tmp_path / "lie", header, tensors))
    assert re.search(r"cars, scale: \d+ values, its table needs \d+", message), message


@pytest.mark.parametrize(
    ("lie", "found"),
    [
        (put(False, *OWLS, "coded"), r"owls, mask: \d+ bytes, its table needs 48"),
        (put(True, *MASK, "coded"), r"birds, mask: .*; the file is damaged"),
        (swap("owls/mask", lambda a: a[:-1]), r"owls, mask: .*; the file is damaged"),
        (swap("owls/mask", lambda a: np.append(a, a[:1])), r"owls, mask: \d+ bytes too many"),
        (swap("owls/mask", lambda a: a[:0]), r"owls, mask: 1 bytes wanted, 0 left"),
        (swap("owls/mask", lambda a: a ^ 3), r"owls, mask: .*; the file is damaged"),
    ],
)
def test_coded_masks_that_cannot_be_decoded_are_refused(
    sound: Path, tmp_path: Path, lie: Lie, found: str
) -> None:
    header, tensors = take_apart(sound)
    lie(header, tensors)
    message = refused_at_load(forge(tmp_path / "lie", header, tensors))
    assert re.search(found, message), message


def test_a_coded_mask_cannot_claim_much_memory(sound: Path, tmp_path: Path) -> None:
    header, tensors = take_apart(sound)
    header["tables"].append([["stem.weight", [1 << 40]]])
    header["tasks"]["owls"]["streams"]["mask"]["table"] = len(header["tables"]) - 1
    tensors["owls/mask"] = np.array([2, 0, 0], np.uint8)  # all ones, of any length
    path = forge(tmp_path / "lie", header, tensors)
    tracemalloc.start()
    try:
        assert "1099511627776 mask bits, expected at most" in refused_at_load(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


# ---- lies that only show against the backbone


def add_stream(name: str, dtype: str, row: str, sides: list[int]) -> Lie:
    kinds = {"bits": "u1", "u8": "u1", "f16": "<f2", "f32": "<f4"}

    def lie(header: Header, tensors: Tensors) -> None:
        header["tables"].append([[row, sides]])
        streams = header["tasks"]["birds"]["streams"]
        streams[name] = {"table": len(header["tables"]) - 1, "dtype": dtype}
        size = math.prod(sides)
        size = -(-size // 8) if dtype == "bits" else size
        tensors[f"birds/{name}"] = np.zeros(size, kinds[dtype])

    return lie


def no_head(header: Header, tensors: Tensors) -> None:
    del header["tasks"]["birds"]["streams"]["head"], tensors["birds/head"]


LOADING: list[tuple[str, Lie, str]] = [
    ("unknown method", put("pigyback", *BIRDS, "method"), r"unknown method 'pigyback'; did you"),
    ("no module", put(":x", *BIRDS, "method"), r"wants to import Python code, ':x'"),
    ("code", put("os:getcwd", *BIRDS, "method"), r"wants to import Python code, 'os:getcwd'"),
    ("unknown option", put(1, *BIRDS, "options", "tau"), r"unknown option of piggyback 'tau'"),
    ("option of text", put("x", *BIRDS, "options", "threshold"), r"threshold='x': expected a num"),
    ("option a list", put([1], *BIRDS, "options", "threshold"), r"threshold=\[1\]: expected a num"),
    ("option null", put(None, *BIRDS, "options", "threshold"), r"threshold=None: expected a num"),
    ("option bool", put(True, *BIRDS, "options", "threshold"), r"threshold=True: expected a num"),
    ("option vast", put(10**400, *BIRDS, "options", "threshold"), r"threshold=10{200}"),
    ("no choice", put("many", *BIRDS, "options", "values"), r"values='many': expected one of"),
    ("ternary without", put("ternary", *BIRDS, "options", "values"), r"has no negative"),
    ("other method", put("ksm", *BIRDS, "method"), r"unknown option of ksm|has no scale"),
    ("unmasked", put("classifier-only", *BIRDS, "method"), r"unknown option|is no part of what"),
    ("no head", no_head, r"birds.*head"),
    ("head elsewhere", add_stream("head", "f32", "fc2.weight", [3, 12]), r"fc2\.weight: is no such"),
    ("half a head", add_stream("head", "f32", "fc.weight", [3, 12]), r"fc\.bias: is missing from"),
    ("head too wide", add_stream("head", "f32", "fc.weight", [3, 13]), r"shape \(3, 13\), \(3, 12\)"),
    ("head a number", add_stream("head", "f32", "fc.weight", []), r"birds, fc: the head has no out"),
    ("head of nothing", add_stream("head", "f32", "fc.weight", [0, 12]), r"head has no outputs"),
    ("head vast", add_stream("head", "f32", "fc.weight", [1 << 40, 0]), r"\(1099511627776, 12\) exp"),
    ("head of weights", add_stream("head", "f32", "stem.weight", [8, 3, 3, 3]), r"is no such tensor"),
    ("norm elsewhere", add_stream("norms", "f32", "norm9.weight", [8]), r"norm9\.weight: is no such"),
    ("norm too wide", add_stream("norms", "f32", "norm1.weight", [9]), r"shape \(9,\), \(8,\) expect"),
    ("norm in the head", add_stream("norms", "f32", "fc.bias", [3]), r"fc\.bias: is no such tensor"),
    ("mask of nothing", add_stream("mask", "bits", "gone.weight", [8]), r"is no weight of the backb"),
    ("mask too wide", add_stream("mask", "bits", "stem.weight", [8, 3, 3, 4]), r"\(8, 3, 3, 3\) exp"),
    ("mask flat", add_stream("mask", "bits", "stem.weight", [216]), r"shape \(216,\), \(8, 3, 3, 3\)"),
    ("mask deep", add_stream("mask", "bits", "stem.weight", [1] * 8), r"\(8, 3, 3, 3\) expected"),
    ("mask of floats", add_stream("mask", "f32", "stem.weight", [8, 3, 3, 3]), r"is stored as f32"),
    ("mask of bytes", add_stream("mask", "u8", "stem.weight", [8, 3, 3, 3]), r"is stored as u8, exp"),
    ("a stream more", add_stream("k9", "f32", "stem.weight", [8]), r"k9: is no part of what piggyb"),
    ("weights elsewhere", add_stream("weights", "f32", "gone", [8]), r"gone: is no such tensor"),
    ("other weights", put("0" * 64, "backbone", "fingerprint"), r"was made for tinynet:build 0000"),
    ("other head", put("fc2", "backbone", "head"), r"unknown head 'fc2'; did you mean 'fc'"),
    ("no head at all", put("", "backbone", "head"), r"unknown head ''"),
    ("head no layer", put("norm1", "backbone", "head"), r"head 'norm1' is a BatchNorm2d"),
]  # fmt: skip


@pytest.mark.parametrize(("lie", "found"), [pytest.param(*row[1:], id=row[0]) for row in LOADING])
def test_a_task_that_does_not_fit_is_refused(
    sound: Path, tmp_path: Path, lie: Lie, found: str
) -> None:
    header, tensors = take_apart(sound)
    lie(header, tensors)
    path = forge(tmp_path / "lie", header, tensors)
    assert re.search(found, message := refused_at_load(path)), message


def test_a_mask_of_one_element_a_kernel_may_be_smaller_than_its_weight(
    sound: Path, tmp_path: Path
) -> None:
    header, tensors = take_apart(sound)
    add_stream("mask", "bits", "stem.weight", [8, 1, 1, 1])(header, tensors)
    path = forge(tmp_path / "lie", header, tensors)
    model = maskpack.load(path, "birds", backbone=network())
    assert not model.get_parameter("stem.weight").any()
    assert model.get_parameter("pointwise.weight").any()


def test_a_failed_switch_leaves_the_model(sound: Path, tmp_path: Path) -> None:
    header, tensors = take_apart(sound)
    add_stream("norms", "f32", "norm1.weight", [9])(header, tensors)
    path = forge(tmp_path / "lie", header, tensors)
    model = maskpack.load(sound, "cars", backbone=network())
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PackFormatError):
        maskpack.switch(model, path, "birds")
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


# ---- lies that only show when a task is scored

INFO = ("tasks", "birds", "info")
SCORING: list[tuple[str, Lie]] = [
    ("no task", drop(*INFO, "task")),
    ("task a list", put([], *INFO, "task")),
    ("no name", drop(*INFO, "task", "name")),
    ("name a number", put(3, *INFO, "task", "name")),
    ("metric a list", put([1], *INFO, "task", "metric")),
    ("no classes", drop(*INFO, "task", "classes")),
    ("other classes", put(["x", "y", "z"], *INFO, "task", "classes")),
    ("classes a number", put(3, *INFO, "task", "classes")),
    ("no preprocess", drop(*INFO, "preprocess")),
    ("preprocess a list", put([1], *INFO, "preprocess")),
    ("an option more", put(1, *INFO, "preprocess", "more")),
    ("a vast picture", put(10**9, *INFO, "preprocess", "img_size")),
    ("a picture of text", put("16", *INFO, "preprocess", "img_size")),
    ("no picture", put(0, *INFO, "preprocess", "img_size")),
    ("all cropped", put(0, *INFO, "preprocess", "crop_pct")),
    ("a vast border", put(1e-9, *INFO, "preprocess", "crop_pct")),
    ("std of nothing", put([0, 0, 0], *INFO, "preprocess", "std")),
    ("mean of one", put([0.5], *INFO, "preprocess", "mean")),
    ("mean a number", put(0.5, *INFO, "preprocess", "mean")),
    ("mean of text", put(["a", "b", "c"], *INFO, "preprocess", "mean")),
    ("interpolation a list", put(["bilinear"], *INFO, "preprocess", "interpolation")),
    ("no augment", drop(*INFO, "augment")),
    ("augment null", put(None, *INFO, "augment")),
    ("crop unknown", put("zoom", *INFO, "augment", "crop_mode")),
    ("ratio of text", put("ab", *INFO, "augment", "ratio")),
    ("hflip of text", put("x", *INFO, "augment", "hflip")),
    ("test a list", put([1], *INFO, "test")),
    ("data a number", put(3, *INFO, "data")),
    ("data elsewhere", put("/nowhere\x1b[2J", *INFO, "data")),
]


def test_a_task_that_cannot_be_scored_is_refused(sound: Path, tmp_path: Path) -> None:
    header, tensors = take_apart(sound)
    data = write_pictures(tmp_path / "data", each=2)
    header["tasks"]["birds"]["info"] = {
        "task": open_task("birds", data).describe(),
        "data": str(data),
        "preprocess": asdict(Preprocess(img_size=16, crop_pct=1.0)),
        "augment": asdict(Augment()),
        "test": {"accuracy": 0.5},
    }

    def score(changed: Header) -> dict[str, Any]:
        pack = read(forge(tmp_path / "lie", changed, tensors))
        return score_task(pack, "birds", backbone="tinynet:build")

    assert score(header)["recorded"] == 0.5
    for name, lie in SCORING:
        changed = copy.deepcopy(header)
        lie(changed, tensors)
        try:
            score(changed)
        except MaskpackError as error:
            assert one_line(error), f"{name}: {error}"
        else:
            pytest.fail(f"{name} was scored")


# ---- code


@pytest.fixture
def nested(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack whose backbone is a run, which names code: `deep` imports it on the way."""
    monkeypatch.chdir(tmp_path)
    data = write_pictures(tmp_path / "data", each=2)
    options = {"data": str(data), "recipe": {"epochs": 1}}
    for name, backbone in (("inner", "tinynet:build"), ("outer", "run:inner")):
        maskpack.fit(backbone, "birds", "classifier-only", output=tmp_path / name, **options)  # type: ignore[arg-type]
    maskpack.pack({"birds": tmp_path / "outer"}, tmp_path / "deep")
    maskpack.pack({"birds": tmp_path / "inner"}, tmp_path / "middle")
    return tmp_path / "deep"


def test_code_that_a_run_names_is_not_imported_because_a_pack_names_the_run(nested: Path) -> None:
    for backbone in ("run:inner", "run:middle"):
        header, tensors = take_apart(nested)
        header["backbone"]["name"] = backbone
        path = forge(nested.parent / "forged", header, tensors)
        with pytest.raises(BackboneError, match=r"wants to import Python code, 'tinynet:build'"):
            maskpack.load(path)
        maskpack.load(path, trust_code=True)
    maskpack.load(nested.parent / "outer")  # named by the user


def test_packs_that_name_each_other_are_refused(nested: Path) -> None:
    header, tensors = take_apart(nested)
    for name, other in (("a", "b"), ("b", "a")):
        header["backbone"]["name"] = f"run:{other}"
        forge(nested.parent / name, header, tensors)
    with pytest.raises(BackboneError, match="comes back to itself as its backbone"):
        maskpack.load("a")


def test_verify_names_the_stream_whose_bytes_changed(sound: Path, tmp_path: Path) -> None:
    for task in read(sound).tasks.values():
        task.verify()
    data = bytearray(sound.read_bytes())
    head = read(sound).task("birds").streams["head"].data
    at = data.find(head.tobytes())
    data[at] ^= 1  # the lowest bit of a float: nothing but a hash can tell
    changed = tmp_path / "changed"
    changed.write_bytes(data)
    load_all(changed)
    with pytest.raises(PackFormatError, match="birds, head: its bytes do not match their sha256"):
        read(changed).task("birds").verify()
