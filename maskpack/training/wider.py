"""A network that is too narrow for a task of a sequence -> a wider one, for the same task.

Its earlier tasks stay in the runs before: a wider network adds in another order, and would not give
their answers to the last bit.
"""

from __future__ import annotations

import copy
import dataclasses

from maskpack.backbones import open_backbone
from maskpack.backbones.base import Backbone
from maskpack.backbones.widening import Widenable, next_width
from maskpack.methods.base import Method
from maskpack.networks.serialize import info_of
from maskpack.runs.sequence import Sequence, begun


def grown(
    backbone: Backbone, method: Method, sequence: Sequence, seed: int
) -> tuple[Backbone, Sequence]:
    """The next wider network than the one a task was to start from, and the sequence there.

    That begins anew, without tasks, on random weights of a name: packs bring every weight, so that
    the name opens what they are put on, and the fingerprint is that of the name.
    """
    module = copy.deepcopy(backbone.module)
    width = next_width(module, method.widest())
    assert width is not None and isinstance(module, Widenable)
    family = module
    name = module.name_of_width(width)
    root = open_backbone(name, weights="none", seed=seed, head=backbone.head)
    state, carried = method.widened(
        module, backbone.head, sequence.carried, lambda state: family.widened(state, width, seed)
    )
    # what is missing there: the head, which a task brings, and step counters
    unexpected = root.module.load_state_dict(state, strict=False).unexpected_keys
    assert not unexpected, unexpected
    wide = dataclasses.replace(root, preprocess=backbone.preprocess)
    return wide, dataclasses.replace(begun(method, info_of(wide)), carried=carried)
