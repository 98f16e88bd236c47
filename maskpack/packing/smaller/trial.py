"""A task in many ways of storing it, each scored on the validation split."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maskpack.common.errors import OptionError
from maskpack.evaluation.evaluate import evaluate_batches
from maskpack.evaluation.task_row import Exam
from maskpack.networks.serialize import apply_task
from maskpack.packing.smaller.kinds import KINDS, Storage, shrunk
from maskpack.packing.smaller.rescore import test_score
from maskpack.packs.contents import PackedTask, Stream
from maskpack.reports.describe import stream_part
from maskpack.tasks.loading import batches

if TYPE_CHECKING:
    from maskpack.backbones.base import Backbone


@dataclass
class Measured:
    """A task as `maskpack.packing.smaller.ladder` measures it.

    `network`, of the backbone's architecture, is made to compute the task anew each time and may
    be shared. Prepared pictures are kept where they take no more than `room` bytes.
    """

    task: PackedTask
    base: Backbone
    exam: Exam
    network: nn.Module
    device: torch.device | str = "cpu"
    room: int = 1 << 30
    _streams: dict[tuple[str, str], dict[str, Stream] | None] = field(default_factory=dict)
    _pictures: list[tuple[Tensor, Any]] | None = None
    _tests: dict[Storage, dict[str, Any] | None] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        found = {stream_part(key, stream) for key, stream in self.task.streams.items()}
        return tuple(part for part in KINDS if part in found)

    @property
    def head_rank(self) -> int:
        head = self.task.streams.get("head")
        shapes = [shape for _, shape in head.table if len(shape) > 1] if head else []
        return min((min(shape[0], math.prod(shape[1:])) for shape in shapes), default=0)

    def size(self, storage: Storage) -> int | None:
        streams = self._stored(storage)
        return None if streams is None else sum(stream.own_bytes for stream in streams.values())

    def score(self, storage: Storage) -> tuple[float, float]:
        apply_task(self.network, self.packed(storage), self.base)
        score = evaluate_batches(self.network, self.exam.task, self._batches(), device=self.device)
        return score.value, score.loss

    def packed(self, storage: Storage) -> PackedTask:
        """The task stored so."""
        streams = self._stored(storage)
        assert streams is not None, f"{storage} cannot be stored"
        return dataclasses.replace(self.task, streams=streams)

    def test(self, storage: Storage) -> dict[str, Any] | None:
        """Its test score stored so; None without a test split."""
        if storage not in self._tests:
            packed = self.packed(storage)
            self._tests[storage] = test_score(packed, self.base, self.exam, self.device)
        return self._tests[storage]

    def forget(self) -> None:
        """Let the prepared pictures go."""
        self._pictures = None

    def _stored(self, storage: Storage) -> dict[str, Stream] | None:
        """All streams of the task; those of each part and kind are made once."""
        streams = dict(self.task.streams)
        for part, kind in storage.changed.items():
            if (part, kind) not in self._streams:
                self._streams[part, kind] = self._part(part, kind)
            found = self._streams[part, kind]
            if found is None:
                return None
            streams |= found
        return streams

    def _part(self, part: str, kind: str) -> dict[str, Stream] | None:
        try:
            small = shrunk(self.task, Storage(**{part: kind}), self.base)
        except OptionError:  # a value beyond float16
            return None
        return {
            key: stream
            for key, stream in small.streams.items()
            if stream_part(key, self.task.streams[key]) == part
        }

    def _batches(self) -> Iterable[tuple[Tensor, Any]]:
        if self._pictures is not None:
            return self._pictures
        pictures = self.exam.pictures("val")
        found = batches(
            pictures,
            self.exam.task.transform(self.exam.preprocess, self.exam.augment, training=False),
            batch_size=64,
            shuffle=False,
            seed=0,
            epoch=0,
        )
        each = 2 * 3 * 4 * self.exam.preprocess.img_size**2  # float32, as large a target
        if each * len(pictures) > self.room:
            return found
        self._pictures = list(found)
        return self._pictures
