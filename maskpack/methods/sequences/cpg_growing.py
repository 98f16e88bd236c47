"""How CPG grows: the earlier tasks' weights on a wider network, all else free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maskpack.backbones.widening import Widen
from maskpack.methods.base import Carried
from maskpack.methods.sequences.cpg_training import BEFORE, CPGKeeper, tasks_before
from maskpack.methods.sequences.owners import BASE, PREFIX

if TYPE_CHECKING:
    from maskpack.methods.sequences.cpg import CPG


@torch.no_grad()
def grown(
    method: CPG, network: nn.Module, head: str, carried: Carried, widen: Widen
) -> tuple[dict[str, Tensor], Carried]:
    """State of the wider network, and what its first task is given; `network` is changed.

    That is the narrow one as the task found it. What it owns is the wide backbone's; what was free
    is free there too, and new weights are, those that are 0 so that old outputs read none of the
    new inputs among them.
    """
    owners = CPGKeeper(method, network, head, carried).owners
    wide = widen(
        {
            name: tensor
            for name, tensor in network.state_dict().items()
            if tensor.is_floating_point() and not name.startswith(f"{head}.")
        }
    )
    given = {BEFORE: torch.tensor(tasks_before(carried), dtype=torch.uint8)}
    if not owners.first:
        given[BASE] = torch.tensor(1, dtype=torch.uint8)
        for name in owners.owner:
            old = wide.old[name]
            owned = torch.zeros_like(old, dtype=torch.uint8)
            owned[old] = owners.earlier(name).flatten().to(torch.uint8)
            given[PREFIX + name] = owned
    return wide.state, Carried((), given)
