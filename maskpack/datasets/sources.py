"""What lies where: the files of each data set, and how to know that they came whole.

Checksums are the publisher's, or those that torchvision checks; sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"
TORONTO = "https://www.cs.toronto.edu/~kriz"
HOUSE_NUMBERS = "http://ufldl.stanford.edu/housenumbers"  # nothing listens on https there


@dataclass(frozen=True)
class File:
    """One file to fetch."""

    url: str
    md5: str = ""
    sha256: str = ""
    size: int = 0  # 0: not published
    makes: str = ""  # an archive: what is there once it is unpacked; else the file stays as it is

    @property
    def name(self) -> str:
        return urlsplit(self.url).path.rpartition("/")[2]


@dataclass(frozen=True)
class Source:
    """The files of one data set."""

    files: tuple[File, ...]
    folder: str = ""  # where they belong, inside the data set's root
    prepared: bool = False  # pictures are cropped or sorted before they are a task
    needs: str = ""  # package that reads the files

    def at(self, mirror: str) -> Source:
        """The same files by their names under another address."""
        base = mirror.rstrip("/")
        files = tuple(replace(file, url=f"{base}/{file.name}") for file in self.files)
        return replace(self, files=files)


FLOWERS = (
    File(
        f"{OXFORD}/flowers/102/102flowers.tgz",
        md5="52808999861908f626f3c1f4e79d11fa",
        size=344_862_509,
        makes="jpg",
    ),
    File(f"{OXFORD}/flowers/102/imagelabels.mat", md5="e0620be6f572b9609742df49c70aed4d", size=502),
    File(f"{OXFORD}/flowers/102/setid.mat", md5="a5357ecc9cb78c4bef273ce3793fc85c", size=14_989),
)

# The folders are those that torchvision's classes look in.
SOURCES: dict[str, Source] = {
    "cubs": Source(
        (
            File(
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
                md5="97eceeb196236b17998738112f37df78",
                size=1_150_585_339,
                makes="CUB_200_2011",
            ),
        ),
        prepared=True,
    ),
    "flowers": Source(FLOWERS, prepared=True, needs="scipy"),
    "sketch": Source(
        (
            # neither checksum nor size is published
            File(
                "https://cybertron.cg.tu-berlin.de/eitz/projects/classifysketch/sketches_png.zip",
                makes="png",
            ),
        ),
        prepared=True,
    ),
    "cifar10": Source(
        (
            File(
                f"{TORONTO}/cifar-10-python.tar.gz",
                md5="c58f30108f718f92721af3b95e74349a",
                size=170_498_071,
                makes="cifar-10-batches-py",
            ),
        )
    ),
    "cifar100": Source(
        (
            File(
                f"{TORONTO}/cifar-100-python.tar.gz",
                md5="eb9058c3a382ffc7106e4002c42a8d85",
                size=169_001_437,
                makes="cifar-100-python",
            ),
        )
    ),
    "dtd": Source(
        (
            File(
                f"{OXFORD}/dtd/download/dtd-r1.0.1.tar.gz",
                md5="fff73e5086ae6bdbea199a49dfb8a4c1",
                size=625_239_812,
                makes="dtd",
            ),
        ),
        folder="dtd",
    ),
    "fgvc_aircraft": Source(
        (
            File(
                f"{OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
                md5="d4acdd33327262359767eeaa97a4f732",
                size=2_753_340_328,
                makes="fgvc-aircraft-2013b",
            ),
        )
    ),
    "flowers102": Source(FLOWERS, folder="flowers-102", needs="scipy"),
    "oxford_iiit_pet": Source(
        (
            File(
                f"{OXFORD}/pets/data/images.tar.gz",
                md5="5c4f3ee8e5d25df40f4fd59a7f44e54c",
                size=791_918_971,
                makes="images",
            ),
            File(
                f"{OXFORD}/pets/data/annotations.tar.gz",
                md5="95a8c909bbe2e81eed6a22bccdf3f68f",
                size=19_173_078,
                makes="annotations",
            ),
        ),
        folder="oxford-iiit-pet",
    ),
    "svhn": Source(
        (
            File(
                f"{HOUSE_NUMBERS}/train_32x32.mat",
                md5="e26dedcc434d2e4c54c9b2d4a06d8373",
                size=182_040_794,
            ),
            File(
                f"{HOUSE_NUMBERS}/test_32x32.mat",
                md5="eb5a983be6a315427106f1b164d9cef3",
                size=64_275_384,
            ),
        ),
        needs="scipy",
    ),
}

# no address that stays: what to look for
BY_HAND: dict[str, str] = {
    "stanford_cars": (
        "its publisher's site is gone; unpack cars_train, cars_test, the devkit and "
        "cars_test_annos_withlabels.mat of a copy (Kaggle has several) into one folder"
    ),
    "wikiart": (
        "unpack the pictures of ArtGAN's refined WikiArt (25 GB), with lists of training and test "
        "pictures, train.txt and test.txt, or with its own artist_train.csv and artist_val.csv"
    ),
}
