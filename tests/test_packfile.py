"""The file: what is written is read, equal packs are equal bytes, and old files stay readable."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mmap
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors import safe_open
from safetensors.numpy import load_file
from test_files import largest_file, names

from maskpack.common.errors import MaskpackError, OptionError, PackFormatError, UnknownName
from maskpack.packs.bits import pack_bits
from maskpack.packs.contents import Array, BackboneInfo, Pack, PackedTask, encode
from maskpack.packs.file import HEADER, KEY, canonical_json, read, write
from maskpack.runs.open import recoded

GOLDEN = Path(__file__).parent / "data" / "format1"
BACKBONE = BackboneInfo("tiny", "ab12" * 16, 1234, "fc", {"img_size": 8, "mean": [0.5, 0.5, 0.5]})


def make_task(name: str = "birds", seed: int = 0, outputs: int = 2) -> PackedTask:
    """A task with a stream of every kind, on two layers."""
    rng = np.random.default_rng(seed)
    masks = {"a.weight": rng.random((3, 2, 3, 3)) < 0.7, "b.weight": rng.random((4, 5)) < 0.5}
    scale = {key: rng.random(mask.shape) * ~mask for key, mask in masks.items()}
    half = {key: value.astype(np.float16) for key, value in scale.items()}
    levels = {key: (255 * value).astype(np.uint8) for key, value in scale.items()}
    head = {
        "fc.weight": rng.normal(size=(outputs, 4)).astype(np.float32),
        "fc.bias": rng.normal(size=outputs).astype(np.float32),
    }
    norms = {"n.weight": np.ones(3, np.float32), "n.running_var": np.full(3, 2, np.float32)}
    streams = {
        "mask": encode(masks, "bits"),
        "negative": encode(masks, "bits"),
        "scale": encode(scale, "f32", masks, "mask"),
        "half": encode(half, "f16", masks, "mask"),
        "levels": encode(levels, "u8", masks, "mask"),
        "every": encode(levels, "u8"),
        "head": encode(head, "f32"),
        "norms": encode(norms, "f16"),
    }
    info = {"task": {"name": name, "metric": "accuracy"}, "best": {"val_accuracy": 0.5}}
    return PackedTask(name, "ksm", {"soft": True, "threshold": 5e-3}, "task", info, streams)


def make_pack(*tasks: PackedTask) -> Pack:
    return Pack(BACKBONE, {task.name: task for task in tasks or (make_task(),)})


def same(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    return list(a) == list(b) and all(
        a[key].dtype == b[key].dtype and np.array_equal(a[key], b[key]) for key in a
    )


def content_of(path: Path) -> dict[str, object]:
    """Header and tensors: other versions of zlib deflate to other bytes."""
    tensors = {key: tensor.tobytes() for key, tensor in load_file(path).items()}
    return {**tensors, HEADER: header_of(path)}


def header_of(path: Path) -> str:
    with safe_open(path, framework="numpy") as file:
        return zlib.decompress(file.get_tensor(HEADER)).decode()


# ---- round trips


def test_every_kind_of_stream_comes_back(tmp_path: Path) -> None:
    task = make_task()
    write(tmp_path / "p", make_pack(task))
    pack = read(tmp_path / "p")
    assert (pack.backbone, pack.path) == (BACKBONE, tmp_path / "p")
    back = pack.task()
    for field in ("name", "method", "options", "norms", "info"):
        assert getattr(back, field) == getattr(task, field)
    assert back.streams.keys() == task.streams.keys()
    for key, stream in task.streams.items():
        kept = back.streams[key]
        assert (kept.table, kept.dtype, kept.zeros_of) == (
            stream.table,
            stream.dtype,
            stream.zeros_of,
        )
        assert kept.data.tobytes() == stream.data.tobytes()
        assert same(back.arrays(key), task.arrays(key))


def test_what_is_encoded_is_what_comes_back() -> None:
    masks = {"w": np.array([[1, 0, 1], [0, 0, 1]], np.bool_)}
    scale = {"w": np.array([[0, 0.25, 0], [0.5, 0, 0]], np.float32)}
    task = PackedTask(
        "t", "m", {}, "frozen", {},
        {"mask": encode(masks, "bits"), "scale": encode(scale, "f32", masks, "mask")},
    )  # fmt: skip
    assert task.streams["mask"].data.tolist() == [0b100101]
    assert task.streams["scale"].data.tolist() == [0.25, 0.5, 0.0]
    assert same(task.arrays("mask"), masks)
    assert same(task.arrays("scale"), scale)


NAMES = st.text(min_size=1, max_size=6).filter(str.isprintable)


@st.composite
def named_bits(draw: st.DrawFn) -> dict[str, Array]:
    shapes = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return {
        name: draw(arrays(np.bool_, draw(shapes)))
        for name in draw(st.lists(NAMES, max_size=4, unique=True))
    }


@given(named_bits(), st.sampled_from(["f32", "f16", "u8"]))
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_names_and_shapes_come_back(
    tmp_path: Path, masks: dict[str, Array], dtype: str
) -> None:
    kind = {"f32": "<f4", "f16": "<f2", "u8": "u1"}[dtype]
    values = {
        key: (np.arange(mask.size).reshape(mask.shape) % 7 * ~mask).astype(kind)
        for key, mask in masks.items()
    }
    streams = {
        "mask": encode(masks, "bits"),
        "dense": encode(values, dtype),
        "sparse": encode(values, dtype, masks, "mask"),
    }
    write(tmp_path / "p", make_pack(PackedTask("t", "m", {}, "frozen", {}, streams)))
    task = read(tmp_path / "p").task("t")
    assert same(task.arrays("mask"), masks)
    assert same(task.arrays("dense"), values)
    assert same(task.arrays("sparse"), values)
    assert task.streams["sparse"].data.size == sum(int((~m).sum()) for m in masks.values())
    for key, mask in masks.items():
        assert task.mask(key).tolist() == mask.flatten().astype(int).tolist()
    assert list(task.masks) == list(masks)


@pytest.mark.parametrize(
    "name", ["V\u00f6gel", "\u9ce5", "two words", "a.b-c_d", "#1", "\U0001f426"]
)
def test_task_names_may_be_of_any_script(tmp_path: Path, name: str) -> None:
    write(tmp_path / "p", make_pack(make_task(name)))
    assert list(read(tmp_path / "p").tasks) == [name]


@pytest.mark.parametrize("name", ["", "a/b", "a=b", "a\nb", " a", "a\u200bb", "\x1b[31m"])
def test_task_names_that_cannot_be_typed_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MaskpackError, match="expected printable characters") as error:
        write(tmp_path / "p", make_pack(make_task(name)))
    assert str(error.value).isprintable()
    assert names(tmp_path) == []


def test_a_pack_without_tasks_is_a_pack(tmp_path: Path) -> None:
    write(tmp_path / "p", Pack(BACKBONE))
    assert read(tmp_path / "p").tasks == {}


# ---- the same bytes


def test_the_same_pack_gives_the_same_bytes(tmp_path: Path) -> None:
    tasks = [make_task(name, seed) for seed, name in enumerate(("birds", "cars", "flowers"))]
    write(tmp_path / "a", make_pack(*tasks))
    write(tmp_path / "b", make_pack(*tasks))
    write(tmp_path / "c", read(tmp_path / "a"))
    turned = [
        PackedTask(
            task.name,
            task.method,
            dict(reversed(task.options.items())),
            task.norms,
            dict(reversed(task.info.items())),
            dict(reversed(task.streams.items())),
        )
        for task in reversed(tasks)
    ]
    write(tmp_path / "d", make_pack(*turned))
    expected = (tmp_path / "a").read_bytes()
    for name in "bcd":
        assert (tmp_path / name).read_bytes() == expected, name


def test_the_header_is_one_canonical_json(tmp_path: Path) -> None:
    write(tmp_path / "p", make_pack())
    with safe_open(tmp_path / "p", framework="numpy") as file:
        assert file.metadata() == {KEY: '{"format":1}'}
    text = header_of(tmp_path / "p")
    assert text == canonical_json(json.loads(text))


def test_files_of_format_1_stay_readable(tmp_path: Path) -> None:
    pack = read(GOLDEN / "pack.safetensors")
    expected = json.loads((GOLDEN / "content.json").read_text(encoding="utf-8"))
    about = expected["backbone"]
    assert pack.backbone == BackboneInfo(**about | {"hashes": tuple(about["hashes"])})
    assert list(pack.tasks) == list(expected["tasks"])
    for name, about in expected["tasks"].items():
        task = pack.task(name)
        for field in ("method", "options", "norms", "info"):
            assert getattr(task, field) == about[field]
        found = {
            key: {row: array.tolist() for row, array in task.arrays(key).items()}
            for key in task.streams
        }
        assert found == about["streams"]
    write(tmp_path / "again", pack)
    assert content_of(tmp_path / "again") == content_of(GOLDEN / "pack.safetensors")


def test_coded_masks_of_format_1_stay_readable(tmp_path: Path) -> None:
    pack = read(GOLDEN / "coded.safetensors")
    assert pack.task().streams["mask"].coded
    expected = json.loads((GOLDEN / "coded.json").read_text(encoding="utf-8"))
    arrays = pack.task().arrays("mask")
    assert list(arrays) == list(expected)
    for name, about in expected.items():
        assert list(arrays[name].shape) == about["shape"]
        assert int((~arrays[name]).sum()) == about["zeros"]
        found = hashlib.sha256(arrays[name].astype(np.uint8).tobytes()).hexdigest()
        assert found == about["sha256"]
    write(tmp_path / "again", pack)
    assert content_of(tmp_path / "again") == content_of(GOLDEN / "coded.safetensors")


def test_quantized_values_of_format_1_stay_readable(tmp_path: Path) -> None:
    pack = read(GOLDEN / "quantized.safetensors")
    expected = json.loads((GOLDEN / "quantized.json").read_text(encoding="utf-8"))
    for name, streams in expected.items():
        task = pack.task(name)
        assert {key for key, stream in task.streams.items() if stream.quantized} == set(streams)
        assert task.streams["norms"].delta == ("norms" in streams)
        for key, rows in streams.items():
            for row, values in rows.items():
                np.testing.assert_allclose(task.arrays(key)[row], values, atol=2e-7)
    write(tmp_path / "again", pack)
    assert content_of(tmp_path / "again") == content_of(GOLDEN / "quantized.safetensors")


# ---- the size of the header


def many_layers(name: str, seed: int, layers: int = 50) -> PackedTask:
    rng = np.random.default_rng(seed)
    masks = {f"layer{i}.0.conv.weight": rng.random((4, 4, 3, 3)) < 0.9 for i in range(layers)}
    norms = {f"layer{i}.0.bn.weight": np.ones(4, np.float32) for i in range(layers)}
    head = {"fc.weight": np.ones((seed % 3 + 2, 4), np.float32)}
    streams = {
        "mask": encode(masks, "bits"),
        "norms": encode(norms, "f32"),
        "head": encode(head, "f32"),
    }
    return PackedTask(name, "piggyback", {"threshold": 5e-3}, "task", {"seed": seed}, streams)


def test_a_hundred_tasks_share_their_tables(tmp_path: Path) -> None:
    tasks = [many_layers(f"task{i}", i) for i in range(100)]
    write(tmp_path / "one", make_pack(tasks[0]))
    write(tmp_path / "all", make_pack(*tasks))
    header = json.loads(header_of(tmp_path / "all"))
    assert len(header["tables"]) == 2 + 3, "masks, norms, and heads of three widths"
    one, every = read(tmp_path / "one"), read(tmp_path / "all")
    assert len(every.tasks) == 100
    assert every.header_bytes < 100_000
    assert (every.header_bytes - one.header_bytes) / 99 < 700
    for task in (every.task("task0"), every.task("task99")):
        whole = tasks[int(task.name.removeprefix("task"))]
        assert same(task.arrays("mask"), whole.arrays("mask"))


def test_header_and_streams_make_the_whole_file(tmp_path: Path) -> None:
    write(tmp_path / "p", make_pack(make_task("a"), make_task("b", 1)))
    pack = read(tmp_path / "p")
    payload = sum(s.own_bytes for task in pack.tasks.values() for s in task.streams.values())
    assert pack.header_bytes + payload == (tmp_path / "p").stat().st_size


# ---- what is loaded


def test_streams_are_maps_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "p", make_pack())
    stream = read(tmp_path / "p").task().streams["mask"]
    owner: object = stream.data
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, mmap.mmap)
    assert not stream.data.flags.writeable
    assert not stream.data.flags.owndata


def test_a_mask_is_a_view_of_the_file(tmp_path: Path) -> None:
    masks = {"w": np.random.default_rng(0).random((4, 2, 3, 3)) < 0.5}  # 72 bits: whole bytes
    task = PackedTask("t", "m", {}, "frozen", {}, {"mask": encode(masks, "bits")})
    write(tmp_path / "p", make_pack(task))
    back = read(tmp_path / "p").task()
    view = back.mask("w")
    assert view.tolist() == masks["w"].flatten().astype(int).tolist()
    info = view.buffer_info()
    assert info.imported
    assert info.readonly
    assert info.address == back.streams["mask"].data.ctypes.data
    assert view == back.masks["w"]


def test_a_pack_can_be_replaced_while_it_is_mapped(tmp_path: Path) -> None:
    write(tmp_path / "p", make_pack(make_task(seed=0)))
    old = read(tmp_path / "p")
    write(tmp_path / "p", make_pack(make_task(seed=1)))
    assert same(old.task().arrays("mask"), make_task(seed=0).arrays("mask"))
    assert same(read(tmp_path / "p").task().arrays("mask"), make_task(seed=1).arrays("mask"))


def test_a_full_disk_leaves_the_old_pack(tmp_path: Path) -> None:
    write(tmp_path / "p", make_pack())
    before = (tmp_path / "p").read_bytes()
    with largest_file(len(before)), pytest.raises(MaskpackError, match="p: cannot be written: "):
        write(tmp_path / "p", make_pack(make_task("a"), make_task("b")))
    assert (tmp_path / "p").read_bytes() == before
    assert names(tmp_path) == ["p"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}])
def test_info_that_is_no_json_is_not_written(tmp_path: Path, value: object) -> None:
    task = PackedTask("t", "m", {}, "frozen", {"test": {"loss": value}}, {})
    with pytest.raises(MaskpackError, match="p: cannot be written: a task's info: "):
        write(tmp_path / "p", make_pack(task))
    assert names(tmp_path) == []


# ---- asking for what is not there


def test_a_task_is_found_by_name(tmp_path: Path) -> None:
    write(tmp_path / "p", make_pack(make_task("birds"), make_task("cars")))
    pack = read(tmp_path / "p")
    assert pack.task("cars").name == "cars"
    with pytest.raises(UnknownName, match=r"'card'; did you mean 'cars'\?; known: birds, cars"):
        pack.task("card")
    with pytest.raises(OptionError, match="p: say which task; it has birds, cars"):
        pack.task()
    with pytest.raises(OptionError, match="the pack: say which task; it has none"):
        Pack(BACKBONE).task()


def test_a_mask_is_found_by_stream_and_layer() -> None:
    task = make_task()
    mask = task.mask("b.weight", "negative")
    assert mask.tobytes() == pack_bits(task.arrays("negative")["b.weight"]).tobytes()
    with pytest.raises(UnknownName, match=r"known: a\.weight, b\.weight"):
        task.mask("c.weight")
    with pytest.raises(UnknownName, match="known: mask, negative"):
        task.mask("a.weight", "scale")
    assert PackedTask("t", "m", {}, "frozen", {}, {}).masks == {}


def test_coded_bits_read_as_raw_ones(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    dense = {"a.weight": random.random((64, 32, 3, 3)) < 0.98, "b.weight": random.random(99) < 0.5}
    task = PackedTask("dense", "piggyback", {}, "frozen", {}, {"mask": encode(dense, "bits")})
    raw = Pack(BACKBONE, {"birds": make_task(), "dense": task})
    coded = recoded(raw, coded=True)
    write(tmp_path / "raw.safetensors", raw)
    write(tmp_path / "coded.safetensors", coded)
    found = read(tmp_path / "coded.safetensors")
    assert found.tasks["dense"].streams["mask"].coded
    for name, task in raw.tasks.items():
        for key in task.streams:
            again = found.task(name).arrays(key)
            assert all(np.array_equal(again[k], v) for k, v in task.arrays(key).items())
    assert found.task("dense").masks == raw.task("dense").masks
    sizes = [(tmp_path / f"{kind}.safetensors").stat().st_size for kind in ("raw", "coded")]
    assert sizes[1] < sizes[0] - 1500
    write(tmp_path / "again.safetensors", recoded(found, coded=False))
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "raw.safetensors"
    ).read_bytes()


def test_damaged_coded_bits_are_told(tmp_path: Path) -> None:
    masks = {"a.weight": np.random.default_rng(0).random(5000) < 0.98}
    task = PackedTask("dense", "piggyback", {}, "frozen", {}, {"mask": encode(masks, "bits")})
    coded = recoded(Pack(BACKBONE, {"dense": task}), coded=True).tasks["dense"]
    stream = coded.streams["mask"]
    damaged = dataclasses.replace(stream, data=stream.data[:-1])
    bad = dataclasses.replace(coded, streams={"mask": damaged})
    write(tmp_path / "bad.safetensors", Pack(BACKBONE, {"dense": bad}))
    with pytest.raises(PackFormatError, match=r"dense, mask: .*; the file is damaged"):
        _ = read(tmp_path / "bad.safetensors").task("dense").masks
