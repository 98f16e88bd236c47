"""A reader in numpy, json and zlib alone, from docs/format.md, of what `pack` writes unasked.

    python examples/read_pack.py zoo.safetensors        # well under a second

prints a line for every row of every stream: its shape and its mean, for bits the share of ones:

    sketches head classifier.bias 40 0.0022
    sketches head classifier.weight 40x1280 -0.0001
    sketches mask conv_stem.weight 32x3x3x3 0.9988
    ...
"""

from __future__ import annotations

import json
import math
import sys
import zlib

import numpy as np

NUMPY = {"bits": "u1", "u8": "u1", "f16": "<f2", "f32": "<f4"}


def read_pack(path: str) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Arrays by task, stream and row name; bool for bits."""
    with open(path, "rb") as file:  # noqa: PTH123 -- nothing but these imports
        data = file.read()
    start = 8 + int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:start])
    assert json.loads(entries["__metadata__"]["maskpack"])["format"] == 1, "by a newer maskpack"
    header = json.loads(zlib.decompress(tensor(data, start, entries["/header"])))
    assert set(header["features"]) <= {"zeros_of"}, "coded or quantized: made smaller than unasked"
    pack = {}
    for task, about in header["tasks"].items():
        streams = pack[task] = {}
        # a stream of values at the zeros of another comes after that one
        kept = about["streams"]
        kept = header["shared"][kept["="]] if kept.keys() == {"="} else kept
        for name, stream in sorted(kept.items(), key=lambda item: "zeros_of" in item[1]):
            entry = entries[stream.get("tensor", f"{task}/{name}")]
            values = np.frombuffer(tensor(data, start, entry), NUMPY[stream["dtype"]])
            where = streams.get(stream.get("zeros_of"))
            streams[name] = read_rows(values, header["tables"][stream["table"]], stream, where)
    return pack


def tensor(data: bytes, start: int, entry: dict) -> bytes:
    """A tensor's bytes."""
    begin, end = entry["data_offsets"]
    return data[start + begin : start + end]


def read_rows(values: np.ndarray, table: list, stream: dict, where: dict | None) -> dict:
    """A stream's values, cut into the rows of its table."""
    rows = {}
    for name, shape in table:
        size = math.prod(shape)
        if stream["dtype"] == "bits":
            taken = -(-size // 8)
            bits = np.unpackbits(values[:taken], bitorder="little")
            assert not bits[size:].any(), f"{name}: padding is not zero"
            rows[name] = bits[:size].astype(bool).reshape(shape)
        elif where is not None:
            taken = int((~where[name]).sum())
            rows[name] = np.zeros(shape, values.dtype)
            rows[name][~where[name]] = values[:taken]
        else:
            taken = size
            rows[name] = values[:taken].reshape(shape)
        values = values[taken:]
    assert not len(values), "bytes are left over"
    return rows


if __name__ == "__main__":
    for task, streams in read_pack(sys.argv[1]).items():
        for stream, rows in streams.items():
            for name, array in rows.items():
                print(task, stream, name, "x".join(map(str, array.shape)), f"{array.mean():.4f}")
