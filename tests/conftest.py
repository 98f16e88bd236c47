"""Fixtures any test may use; the networks themselves are in `tiny`, importable by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tiny
import torch

from maskpack.backbones.base import Backbone

torch.set_num_threads(1)  # the networks are tiny, and machines that test are busy


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Every test starts from the same random numbers, alone or in any order."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    yield
    torch.set_rng_state(state)


@pytest.fixture
def plain() -> Backbone:
    return tiny.backbone(tiny.plain)


@pytest.fixture
def everything() -> Backbone:
    return tiny.backbone(tiny.everything)
