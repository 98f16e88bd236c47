"""Masks on a network: what is trained, what is computed with, what is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import nn

from maskpack import from_module, methods
from maskpack.backbones.base import Backbone
from maskpack.common.errors import OptionError, UnknownName
from maskpack.common.preprocess import Preprocess
from maskpack.networks.build import task_network
from maskpack.networks.masked import MaskedNetwork, named_params, set_weights
from maskpack.networks.serialize import pack_task, unpack_task

NORMS = ("norm.", "instance.", "layer_norm.")


def network(
    backbone: Backbone, method: str = "piggyback", norms: str | None = None, **more: Any
) -> MaskedNetwork:
    return task_network(backbone, methods.make(method), tiny.OUTPUTS, norms=norms, **more)


def trained(masked: MaskedNetwork) -> set[str]:
    return {name for name, p in masked.network.named_parameters() if p.requires_grad}


HEAD = {"fc.weight", "fc.bias"}
NORM = {f"{norm}{key}" for norm in NORMS for key in ("weight", "bias")}


@pytest.mark.parametrize("method", ["piggyback", "ksm", "affine", "classifier-only"])
@pytest.mark.parametrize(("norms", "own"), [("frozen", set()), ("stats", set()), ("task", NORM)])
def test_only_what_the_task_owns_is_trained(
    everything: Backbone, method: str, norms: str, own: set[str]
) -> None:
    masked = network(everything, method, norms)
    assert trained(masked) == HEAD | own
    assert all(p.requires_grad for p in masked.params.parameters())


@pytest.mark.parametrize(("norms", "own"), [("frozen", set()), ("stats", set()), ("task", NORM)])
def test_fine_tuning_trains_everything_but_frozen_norms(
    everything: Backbone, norms: str, own: set[str]
) -> None:
    masked = network(everything, "fine-tune", norms)
    weights = {name for name, _ in everything.module.named_parameters()}
    assert trained(masked) == weights - NORM | own


def test_groups_hold_each_trainable_once(everything: Backbone) -> None:
    for method in methods.METHODS.keys() - set(methods.FITTED):
        masked = network(everything, method, "task")
        groups = masked.trained_groups()
        listed = [id(p) for group in groups.values() for p in group]
        wanted = [id(p) for p in masked.parameters() if p.requires_grad]
        assert sorted(listed) == sorted(wanted)
        assert len(groups["head"]) == 2
        assert len(groups["norms"]) == 6
        assert ("scores" in groups) == masked.method.masks
        assert ("weights" in groups) == bool(masked.trained)


@pytest.mark.parametrize(
    ("norms", "training"), [("frozen", 0), ("scale", 0), ("stats", 3), ("task", 3)]
)
def test_frozen_norms_stay_in_eval_mode(everything: Backbone, norms: str, training: int) -> None:
    masked = network(everything, norms=norms)
    for _ in range(2):
        modules = dict(masked.train().network.named_modules())
        assert sum(modules[norm[:-1]].training for norm in NORMS) == training
        assert modules["stem"].training
        assert not any(module.training for module in masked.eval().modules())


def test_the_mode_of_norms_must_be_known(everything: Backbone) -> None:
    with pytest.raises(UnknownName, match="unknown norms mode 'froze'; did you mean 'frozen'"):
        network(everything, norms="froze")


def test_a_shared_weight_has_one_mask_that_reaches_both_modules(everything: Backbone) -> None:
    masked = network(everything).eval()
    with torch.no_grad():
        masked.layer_params("first.weight")["scores"].zero_()  # all off
    seen = {}

    def note(name: str) -> Any:
        return lambda module, *_: seen.update({name: module.weight.detach().clone()})

    hooks = [
        masked.network.get_submodule(name).register_forward_hook(note(name))
        for name in ("first", "second")
    ]
    masked(torch.zeros(1, 3, tiny.SIZE, tiny.SIZE))
    for hook in hooks:
        hook.remove()
    assert not seen["first"].any() and not seen["second"].any()
    baked = masked.baked()
    assert baked.first.weight is baked.second.weight
    assert not baked.first.weight.any()
    assert masked.network.second.weight.all()  # the backbone's


def test_attentions_bare_weight_is_masked(everything: Backbone) -> None:
    masked = network(everything).eval()
    images = next(tiny.batches())[0]
    with torch.no_grad():
        before = masked(images)
        masked.layer_params("attention.in_proj_weight")["scores"].zero_()
        assert not torch.equal(masked(images), before)


def test_baked_is_a_plain_copy(everything: Backbone) -> None:
    masked = tiny.train(network(everything))
    masked.train()
    baked = masked.baked()
    assert masked.training and masked.network.stem.training and not masked.network.norm.training
    assert not baked.training and not any(p.requires_grad for p in baked.parameters())
    assert type(baked) is type(everything.module)
    theirs = {t.data_ptr() for t in masked.network.state_dict().values()}
    assert not theirs & {t.data_ptr() for t in baked.state_dict().values()}


def test_packing_leaves_the_mode(everything: Backbone) -> None:
    masked = network(everything).train()
    pack_task(masked, "shades", {})
    assert masked.training and masked.network.stem.training


def test_scores_start_the_same_in_any_memory_format() -> None:
    backbone = tiny.backbone(tiny.everything)
    plain = network(backbone, "affine", seed=3)
    backbone.module.to(memory_format=torch.channels_last)
    last = network(backbone, "affine", seed=3)
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), last.parameters(), strict=True)
    )


def test_the_seed_decides_scores_and_head(everything: Backbone) -> None:
    first, again, other = (network(everything, "affine", seed=seed) for seed in (1, 1, 2))
    for key in ("fc.weight", "stem"):
        a, b, c = (
            masked.network.fc.weight
            if key == "fc.weight"
            else masked.layer_params("stem.weight")["scores"]
            for masked in (first, again, other)
        )
        assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("method", ["piggyback", "ksm", "affine"])
def test_norms_and_biases_can_be_masked_too(everything: Backbone, method: str) -> None:
    include = ("default", "norm.*", "linear.bias")
    masked = network(everything, method, "task", include=include)
    own = {"norm.weight", "norm.bias", "linear.bias"}
    assert own < set(masked.layers)
    assert not own & trained(masked)  # a masked norm's own values stay the backbone's
    assert not own & set(masked.own_tensors()["norms"])
    tiny.train(masked).eval()
    packed = pack_task(masked, "shades", {})
    images = next(tiny.batches())[0]
    with torch.no_grad():
        assert torch.equal(unpack_task(packed, everything)(images), masked(images))
    assert torch.equal(masked.network.norm.weight, everything.module.norm.weight)


def test_names_of_params_are_layer_and_key(everything: Backbone) -> None:
    masked = network(everything, "affine", include=("stem.*",))
    names = {(layer, key) for layer, key, _ in named_params(masked)}
    assert names == {("stem.weight", key) for key in ("scores", "k1", "k2", "k3")}


def test_share_of_ones_counts_bits(everything: Backbone) -> None:
    masked = network(everything, include=("first.weight", "linear.weight"))
    with torch.no_grad():
        masked.layer_params("first.weight")["scores"][:2] = 0  # 2 of 8 rows
    assert masked.share_of_ones() == {"first.weight": 0.75, "linear.weight": 1.0}


def test_classifier_only_is_the_networks_own_forward(everything: Backbone) -> None:
    masked = network(everything, "classifier-only").eval()
    images = next(tiny.batches())[0]
    assert torch.equal(masked(images), masked.network(images))
    assert masked.masks() == {} and list(masked.own_tensors()) == ["head"]


def test_fine_tuning_brings_every_tensor_once_frozen_norms_too(everything: Backbone) -> None:
    for norms in ("frozen", "stats", "task"):
        own = network(everything, "fine-tune", norms).own_tensors()
        names = [name for tensors in own.values() for name in tensors]
        state = set(everything.module.state_dict()) - {"second.weight"}
        assert sorted(names) == sorted(n for n in state if not n.endswith("num_batches_tracked"))


def test_a_norm_under_two_names_is_set_once() -> None:
    module = tiny.plain()
    module.alias = module.norm  # type: ignore[assignment]
    backbone = from_module(module, preprocess=tiny.PREPROCESS)
    masked = tiny.train(network(backbone, "ksm", "task")).eval()
    packed = pack_task(masked, "shades", {})
    assert [n for n in masked.own_tensors()["norms"] if n.startswith("alias")] == []
    images = next(tiny.batches())[0]
    with torch.no_grad():
        assert torch.equal(unpack_task(packed, backbone)(images), masked(images))


def test_set_weights_copies_into_parameters_and_buffers() -> None:
    network = nn.BatchNorm2d(2)
    weight = network.weight
    set_weights(network, {"weight": torch.tensor([3.0, 4.0]), "running_var": torch.zeros(2)})
    assert network.weight is weight and weight.tolist() == [3.0, 4.0]
    assert network.running_var is not None and not network.running_var.any()


# ---- the network of a task


def test_the_backbone_keeps_its_own_head(everything: Backbone) -> None:
    masked = network(everything)
    assert everything.module.fc.out_features == 5
    assert masked.network.fc.out_features == tiny.OUTPUTS


def test_a_network_without_masks_is_refused(everything: Backbone) -> None:
    with pytest.raises(OptionError, match="no weight of the network is masked; see --include"):
        network(everything, exclude=("*",))


@pytest.mark.parametrize("outputs", [0, -1])
def test_a_head_without_outputs_is_refused(everything: Backbone, outputs: int) -> None:
    with pytest.raises(OptionError, match=f"outputs is {outputs}; a head has 1 or more"):
        task_network(everything, methods.make("piggyback"), outputs)


def test_a_picture_size_the_network_does_not_take_is_refused() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    with pytest.raises(OptionError, match=r"custom does not run on 3 x 224 x 224 pictures: .*mat1"):
        network(from_module(flat))
    network(from_module(flat, preprocess=Preprocess(img_size=8)))
