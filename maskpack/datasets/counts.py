"""How many classes and pictures data sets have, as published: torchvision's in its splits,
the built-in ones as they come."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """Classes and pictures; 0 where there is no such split."""

    classes: int
    train: int
    test: int
    val: int = 0


PUBLISHED: dict[str, Published] = {
    "cifar10": Published(10, 50_000, 10_000),
    "cifar100": Published(100, 50_000, 10_000),
    "country211": Published(211, 31_650, 21_100, 10_550),
    "dtd": Published(47, 1_880, 1_880, 1_880),
    "emnist": Published(47, 112_800, 18_800),
    "fashion": Published(10, 2_000, 1_000),
    "fashion_mnist": Published(10, 60_000, 10_000),
    "fgvc_aircraft": Published(100, 3_334, 3_333, 3_333),
    "flowers102": Published(102, 1_020, 6_149, 1_020),
    "food101": Published(101, 75_750, 25_250),
    "gtsrb": Published(43, 26_640, 12_630),
    "imagenette": Published(10, 9_469, 3_925),
    "kmnist": Published(10, 60_000, 10_000),
    "mnist": Published(10, 60_000, 10_000),
    "oxford_iiit_pet": Published(37, 3_680, 3_669),
    "pcam": Published(2, 262_144, 32_768, 32_768),
    "rendered_sst2": Published(2, 6_920, 1_821, 872),
    "stl10": Published(10, 5_000, 8_000),
    "svhn": Published(10, 73_257, 26_032),
    "sketches": Published(40, 3_000, 1_000),
    "usps": Published(10, 7_291, 2_007),
}
