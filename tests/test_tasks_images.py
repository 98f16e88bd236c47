"""Any mode becomes RGB; a file that is no picture is named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskpack.common.errors import DataError
from maskpack.tasks.images import ImageFiles, read_image, to_rgb


def saved(path: Path, image: Image.Image, **options: object) -> Image.Image:
    image.save(path, **options)  # type: ignore[arg-type]
    return read_image(path)


def pixel(image: Image.Image) -> tuple[int, ...]:
    assert image.mode == "RGB"
    found = image.getpixel((0, 0))
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize(
    ("mode", "colour", "name", "expected"),
    [
        ("RGB", (1, 2, 3), "x.png", (1, 2, 3)),
        ("L", 7, "x.png", (7, 7, 7)),
        ("1", 1, "x.png", (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), "x.png", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), "x.png", (255, 255, 255)),
        ("LA", (8, 255), "x.png", (8, 8, 8)),
        ("LA", (8, 0), "x.png", (255, 255, 255)),
        ("CMYK", (0, 0, 0, 255), "x.tif", (0, 0, 0)),
        ("CMYK", (0, 0, 0, 0), "x.tif", (255, 255, 255)),
        ("I;16", 65535, "x.png", (255, 255, 255)),
        ("I;16", 257 * 9, "x.png", (9, 9, 9)),
        ("I", 300, "x.tif", (255, 255, 255)),
        ("F", 12.0, "x.tif", (12, 12, 12)),
        ("F", float("nan"), "x.tif", (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path, mode: str, colour: object, name: str, expected: tuple[int, ...]
) -> None:
    image = Image.new(mode, (3, 2), colour)  # type: ignore[arg-type]
    assert pixel(saved(tmp_path / name, image)) == expected


def test_palette_with_transparency_is_put_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 1, 2, 3])
    image.putpixel((1, 0), 1)
    found = saved(tmp_path / "x.png", image, transparency=bytes([0, 255]))
    assert [found.getpixel((0, 0)), found.getpixel((1, 0))] == [(255, 255, 255), (1, 2, 3)]


def test_rgb_with_a_transparent_colour_is_put_on_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (1, 1), (5, 6, 7))
    assert pixel(saved(tmp_path / "x.png", image, transparency=(5, 6, 7))) == (255, 255, 255)


def test_wide_grey_of_an_older_pillow_is_scaled() -> None:
    buffer = io.BytesIO()
    Image.new("I;16", (1, 1), 257 * 5).save(buffer, "PNG")
    image = Image.open(buffer)
    if image.mode != "I":
        wide = Image.fromarray(np.asarray(image).astype(np.int32))
        wide.format = "PNG"
        image = wide  # type: ignore[assignment]
    assert pixel(to_rgb(image)) == (5, 5, 5)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
def test_truncated_picture_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half.{suffix}"
    NOISE.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"half\.{suffix}: cannot be read as an image") as caught:
        ImageFiles([str(path)], [0])[0]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_no_picture_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.png: cannot be read as an image"):
        read_image(path)


def test_picture_that_went_away(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.png: no such file; it was there"):
        read_image(tmp_path / "x.png")


def test_picture_of_absurd_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    NOISE.save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="decompression bomb"):
        read_image(tmp_path / "x.png")
