"""What every method promises of a network that makes pictures, learnt by the one loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import tinydense
import torch

from maskpack.common.errors import OptionError
from maskpack.networks.serialize import unpack_task
from maskpack.packs import file as packfile
from maskpack.runs.folder import Run
from maskpack.runs.open import open_pack
from maskpack.training.setup import Options, Session, open_session
from maskpack.training.train_run import learn
from maskpack.training.trainer import load_learnt

VARIANTS = """
piggyback
piggyback norms=task
piggyback values=ternary norms=scale
ksm
ksm norms=frozen soft=false
affine
affine norms=stats granularity=channel
classifier-only
fine-tune
scratch
scratch without=blocks
decoder
decoder norms=task
residual-blocks
residual-blocks training=sequential
residual-blocks training=alternate norms=task
"""
TASKS = ("colouring", "colouring values=ab loss=l2", "autoencode loss=adversarial")


def _session(line: str, task: str, data: Path) -> Session:
    method, *words = line.split()
    name, *more = task.split()
    options = dict(word.split("=") for word in words)
    norms = options.pop("norms", None)
    return open_session(
        Options(
            "tinydense:build",
            name,
            method,
            options,
            data=str(data),
            task_set=dict(word.split("=") for word in more),
            norms=norms,
            preprocess={"img_size": 32 if "adversarial" in task else 16},
            recipe={"epochs": 2, "batch_size": 2, "opt": "adam", "lr": 1e-2},
        ),
        tinydense.backbone(),
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinydense.write_photos(tmp_path_factory.mktemp("dense") / "photos", 6, 2)


@pytest.fixture(
    scope="module",
    params=[(line, TASKS[n % len(TASKS)]) for n, line in enumerate(VARIANTS.strip().splitlines())],
    ids=lambda param: " ".join(param),
)
def learnt(
    request: pytest.FixtureRequest, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Session, Run]:
    session = _session(*request.param, photos)
    return session, learn(session, tmp_path_factory.mktemp("run") / "run")


def _images() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def test_packed_task_equals_trained_task(learnt: tuple[Session, Run], tmp_path: Path) -> None:
    session, run = learnt
    load_learnt(session.network, run.load_best())
    path = tmp_path / "one.safetensors"
    packfile.write(path, open_pack(run.path))
    loaded = unpack_task(packfile.read(path).task(), session.backbone)
    loaded = loaded.to(memory_format=torch.channels_last)  # as the trained one is, for one kernel
    trained = session.network.eval()
    with torch.no_grad():
        expected = trained(_images())
        assert expected.shape == (3, session.task.outputs(), 16, 16)
        assert torch.equal(loaded(_images()), expected)
        assert torch.equal(trained.baked()(_images()), expected)


def test_the_backbone_is_untouched(learnt: tuple[Session, Run]) -> None:
    fresh = tinydense.backbone().module.state_dict()
    found = learnt[0].backbone.module.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in found.items())


def test_only_what_the_method_names_has_moved(learnt: tuple[Session, Run]) -> None:
    session, run = learnt
    load_learnt(session.network, run.load_last())
    base = session.backbone.module.state_dict()
    after = session.network.network.state_dict()
    moved = {
        name.partition(".")[0]
        for name, value in after.items()
        if not name.startswith("head.")
        and not _is_norm(name)
        and not torch.equal(value, base[name])
    }
    expected = {
        "fine-tune": {"down", "block1", "block2", "up"},
        "decoder": {"up"},
        "residual-blocks": {"block1", "block2"},
    }
    name = session.options.method
    if name == "scratch":
        whole = session.network.method == type(session.network.method)()
        assert moved == ({"down", "block1", "block2", "up"} if whole else {"down", "up"})
    else:
        assert moved == expected.get(name, set())


def _is_norm(name: str) -> bool:
    return name.startswith(("down.1.", "up.1.")) or ".norm." in name


def test_blocks_learn_in_the_order_asked_for(photos: Path) -> None:
    blocks = ("block1", "block2")
    for training, expected in {
        "two-stage": [blocks, blocks],
        "sequential": [("block1",), ("block2",)],
        "alternate": [("block1",), ("block2",)],
    }.items():
        line = f"residual-blocks training={training}"
        network = _session(line, "autoencode", photos).network
        found = [network.method.learning(network.trained, epoch, 2) for epoch in range(2)]
        assert found == expected
        resting = [{id(p) for p in network.at_rest(epoch, 2)} for epoch in range(2)]
        second = {id(p) for p in network.network.block2.parameters()}
        assert (resting[0] == second) == (training != "two-stage")
    nine = tuple(f"b{n}" for n in range(9))
    method = _session("residual-blocks training=sequential", "autoencode", photos).network.method
    turns = [method.learning(nine, epoch, 4) for epoch in range(4)]
    assert sum(turns, ()) == nine, "each has its turn, in order, with fewer epochs than blocks"


def test_a_classifier_has_no_decoder(photos: Path) -> None:
    import tiny

    options = Options("tiny:bare", "autoencode", "decoder", data=str(photos))
    with pytest.raises(OptionError, match="has no decoder: it is no encoder-decoder; take unet"):
        open_session(options, tiny.backbone(lambda: tiny.plain(), "tiny:bare"))
