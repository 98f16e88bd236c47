"""How methods were trained, side by side, and what stands out."""

from __future__ import annotations

from typing import Any

from maskpack.suites.tables.protocol import TEST, marked, protocol_notes, protocol_rows


def run(**changes: Any) -> dict[str, Any]:
    """Flat options of a run, some changed; `recipe__lr` is recipe.lr."""
    options = {
        "backbone": "net",
        "start": "the backbone",
        "recipe.epochs": 20,
        "recipe.batch_size": 32,
        "recipe.opt": "adam",
        "recipe.lr": 1e-3,
        "recipe.head_opt": None,
        "recipe.head_lr": None,
        "recipe.sched": "step",
        "recipe.weight_decay": 0.0,
        "recipe.decay_epochs": 15,
        "norms": "frozen",
        "preprocess.img_size": 224,
        "select": "val",
        "seed": 0,
        "data": "pictures",
        "seconds": 10.0,
    }
    return options | {key.replace("__", "."): value for key, value in changes.items()}


def rows(**methods: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in protocol_rows(methods)}


def test_methods_that_were_trained_alike_differ_in_nothing() -> None:
    found = rows(
        a={"x": run(), "y": run(recipe__epochs=40)}, b={"x": run(), "y": run(recipe__epochs=40)}
    )
    for row in found.values():
        assert row["differs"] is None
        assert (row["epochs"], row["selection"]) == ("20 (y 40)", "validation")
        assert (row["head optimiser"], row["head lr"]) == ("adam", 1e-3)
        assert row["seconds"] == 20.0
    assert list(protocol_notes(list(found.values()))) == []


def test_what_most_others_do_otherwise_is_named_and_starred() -> None:
    found = rows(
        a={"x": run()},
        b={"x": run()},
        c={"x": run(recipe__epochs=5, norms="task", recipe__decay_epochs=2, augment__hflip=0.0)},
        d={"x": run(preprocess__img_size=96, recipe__lr=0.1)},
    )
    assert found["a"]["differs"] is None
    assert found["c"]["differs"] == "epochs, norms, hflip 0.0, decay_epochs 2"
    assert found["d"]["differs"] == "lr, head lr, img-size"
    starred = {row["method"]: row for row in marked(list(found.values()))}
    assert (starred["c"]["epochs"], starred["c"]["norms"]) == ("5 *", "task *")
    assert (starred["a"]["epochs"], starred["c"]["lr"]) == (20, 1e-3)
    notes = list(protocol_notes(list(found.values())))
    assert notes == [
        "epochs not as the other methods': c (5)",
        "norms not as the other methods': c (task)",
        "img-size not as the other methods': d (96)",
    ]


def test_a_task_of_its_own_is_no_difference() -> None:
    """A method that was not trained on some task is compared on the others."""
    found = rows(
        a={"x": run(), "y": run(recipe__epochs=40)}, b={"y": run(recipe__epochs=40)}, c={"x": run()}
    )
    assert all(row["differs"] is None for row in found.values())
    assert [found[name]["epochs"] for name in "abc"] == ["20 (y 40)", 40, 20]


def test_the_test_split_as_judge_is_said_loudly() -> None:
    found = rows(a={"x": run()}, b={"x": run(select="test")})
    assert found["b"]["selection"] == TEST == "TEST SPLIT"
    (note,) = protocol_notes(list(found.values()))
    assert note.startswith("the TEST SPLIT chose the epoch of b: such scores are too good")
    everywhere = rows(a={"x": run(select="test")}, b={"x": run(select="test")})
    assert all(row["differs"] is None for row in everywhere.values())
    (note,) = protocol_notes(list(everywhere.values()))
    assert "the epoch of a, b:" in note


def test_no_methods_make_no_rows() -> None:
    assert protocol_rows({}) == [] and list(protocol_notes([])) == []
