"""Batches of a task's pictures: the same bytes however many workers make them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from maskpack.common.errors import DataError, OptionError
from maskpack.tasks.base import LabelledImages, Transform


class Transformed:
    """Sample `index` of an epoch, drawn under an RNG seed of its own (seed, epoch, index).

    So it is the same in any process and order; torch's and Python's global RNGs come back
    as they were.
    """

    def __init__(
        self,
        dataset: LabelledImages,
        transform: Transform,
        seed: int,
        epoch: int,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        with _rng_kept():
            return self._draw(index)

    def batch(self, indices: list[int]) -> tuple[Tensor, Any]:
        """Samples stacked: float32 (batch, 3, h, w), and their targets."""
        with _rng_kept():
            samples = [self._draw(index) for index in indices]
        targets = default_collate([target for _, target in samples])
        return torch.stack([picture for picture, _ in samples]), targets

    def _draw(self, index: int) -> tuple[Tensor, Any]:
        picture, target = self.dataset[index]
        drawn = _mix(self.seed, self.epoch, index)
        # the generator itself: torch.manual_seed also visits every accelerator, 100 times slower
        torch.default_generator.manual_seed(drawn)
        random.seed(drawn)
        return self.transform(picture, target)


def count_batches(samples: int, batch_size: int, drop_last: bool = False) -> int:
    """How many batches an epoch of `samples` pictures has."""
    if batch_size < 1:
        raise OptionError(f"batch size is {batch_size}; expected 1 or more")
    return samples // batch_size if drop_last else -(-samples // batch_size)


def batches(
    dataset: LabelledImages,
    transform: Transform,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    epoch: int,
    start_batch: int = 0,
    workers: int = 0,
    drop_last: bool = False,
) -> Iterator[tuple[Tensor, Any]]:
    """An epoch's batches from `start_batch` on: float32 (batch, 3, h, w), target.

    Order and pictures hang on seed and epoch alone. What is skipped is never decoded. Close
    the iterator to stop its workers early. A picture that cannot be read raises DataError.
    """
    count = count_batches(len(dataset), batch_size, drop_last)
    if workers < 0:
        raise OptionError(f"workers is {workers}; expected 0 or more")
    order = _order(len(dataset), shuffle, seed, epoch)
    plan = [order[i * batch_size : (i + 1) * batch_size] for i in range(start_batch, count)]
    samples = Transformed(dataset, transform, seed, epoch)
    if workers == 0 or not plan:
        return (samples.batch(indices) for indices in plan)
    return _from_workers(samples, plan, min(workers, len(plan)))


def _order(samples: int, shuffle: bool, seed: int, epoch: int) -> list[int]:
    if not shuffle:
        return list(range(samples))
    generator = torch.Generator().manual_seed(_mix(seed, epoch, -1))
    order: list[int] = torch.randperm(samples, generator=generator).tolist()
    return order


def _mix(seed: int, epoch: int, index: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")  # torch's CPU generator uses 32 bits of a seed


@contextlib.contextmanager
def _rng_kept() -> Iterator[None]:
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)


class _Unreadable(NamedTuple):
    """A DataError on its way home: DataLoader would bury its line under a worker's traceback."""

    message: str


class _BatchByNumber:
    """What a worker runs: the list of a batch's indices in, the batch out."""

    def __init__(self, samples: Transformed) -> None:
        self.samples = samples

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Any] | _Unreadable:
        try:
            return self.samples.batch(indices)
        except DataError as error:
            return _Unreadable(str(error))


def _from_workers(
    samples: Transformed, plan: list[list[int]], workers: int
) -> Iterator[tuple[Tensor, Any]]:
    loader: DataLoader[Any] = DataLoader(
        _BatchByNumber(samples),  # type: ignore[arg-type]  # a map from index lists
        sampler=plan,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # else starting it draws from the global RNG
    )
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside any thread (a progress bar is one)
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        source = iter(loader)
    try:
        for batch in source:
            if isinstance(batch, _Unreadable):
                raise DataError(batch.message)
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = " ".join(str(error).split())
        raise DataError(f"a loading worker died ({reason}); try fewer, or -j 0") from error
    finally:
        # not left to the collector: a traceback may hold the iterator for long
        source._shutdown_workers()  # type: ignore[attr-defined]


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    # Ctrl-C and a scheduler's SIGTERM reach the whole group; the main process decides what to do
    # (it may want the rest of the epoch), and workers end with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries loaded from here on
