"""Choosing how numbers are stored: the path down, budgets, and what is recorded of it."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tinynet import write_pictures

import maskpack
from maskpack.cli import progress
from maskpack.common.errors import MaskpackError, OptionError
from maskpack.evaluation.task_row import Bases
from maskpack.packing.smaller import trial as measuring
from maskpack.packing.smaller.choose import TOLD_ROWS, Choice, choose
from maskpack.packing.smaller.kinds import Storage, rank_and_kind
from maskpack.packing.smaller.ladder import Ladder, Row
from maskpack.packing.smaller.limits import Limits, parse_size, smallest, within_budget
from maskpack.packs.contents import Pack
from maskpack.packs.file import read
from maskpack.reports.describe import task_bytes
from maskpack.runs.open import open_pack, recoded

BITS = {"fp32": 32, "fp16": 16, "int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "int3": 3, "int2": 2}
LOST = {"fp32": 0, "fp16": 0, "int8": 1, "uint8": 1, "int4": 4, "uint4": 4, "int3": 9, "int2": 40}
VALUES = {"head": 1000, "norms": 400, "coefficients": 200}


@dataclass
class Fake:
    """A task whose metric falls by what each kind loses, in thousandths, times `fragile`."""

    fragile: Mapping[str, float] = field(default_factory=dict)
    parts: tuple[str, ...] = ("head", "norms", "coefficients")
    head_rank: int = 8
    refused: tuple[str, ...] = ()
    scored: list[Storage] = field(default_factory=list)

    def size(self, storage: Storage) -> int | None:
        kinds = {part: rank_and_kind(getattr(storage, part)) for part in self.parts}
        if any(kind in self.refused for _, kind in kinds.values()):
            return None
        return sum(
            VALUES[part] * BITS[kind] * (rank or 8) // 64 for part, (rank, kind) in kinds.items()
        )

    def score(self, storage: Storage) -> tuple[float, float]:
        self.scored.append(storage)
        lost = 0.0
        for part in self.parts:
            rank, kind = rank_and_kind(getattr(storage, part))
            lost += self.fragile.get(part, 1) * LOST[kind] + (300 // rank if rank else 0)
        return 0.9 - lost / 1000, 0.1 + lost / 1000


def sizes(rows: Mapping[str, Row]) -> int:
    """Bytes of a file with a header of 50."""
    return 50 + sum(row.bytes for row in rows.values())


def kinds(row: Row) -> tuple[str, ...]:
    return (row.storage.head, row.storage.norms, row.storage.coefficients)


# ---- the path


def test_the_path_begins_as_it_is_then_float16_then_one_part_a_step() -> None:
    ladder = Ladder(Fake())
    while ladder.extend():
        pass
    path = [kinds(row) for row in ladder.path]
    assert path[:2] == [("fp32",) * 3, ("fp16",) * 3]
    for before, after in itertools.pairwise(path[1:]):
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    assert path[2] == ("int8", "fp16", "fp16"), "the largest part saves most for what it loses"
    assert path[-1][1:] == ("int2", "uint4")
    steps = [row.bytes for row in ladder.path]
    assert steps == sorted(set(steps), reverse=True)


def test_few_bytes_are_not_worth_a_measurement_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(VALUES, "coefficients", 4)
    monkeypatch.setitem(VALUES, "head", 1_000_000)
    ladder = Ladder(Fake())
    while ladder.extend():
        pass
    assert kinds(ladder.path[1]) == ("fp16",) * 3, "there they cost nothing"
    assert {row.storage.coefficients for row in ladder.rows[1:]} == {"fp16"}


def test_every_combination_is_measured_once() -> None:
    subject, seen = Fake(), []
    ladder = Ladder(subject, watch=seen.append)
    while ladder.extend():
        pass
    assert len(subject.scored) == len(set(subject.scored)) == len(ladder.rows) == len(seen)
    assert [row.bytes for row in ladder.rows] == sorted((r.bytes for r in seen), reverse=True)


def test_a_head_is_tried_as_a_product_once_it_is_integers() -> None:
    subject = Fake(parts=("head",))
    ladder = Ladder(subject)
    ladder.extend()
    assert not any("rank" in storage.head for storage in subject.scored)
    ladder.extend()
    ladder.extend()
    assert [row.storage.head for row in ladder.rows] == ["fp32", "fp16", "int8", "int4", "rank4"]


def test_fixed_parts_stay_and_drops_are_counted_from_full_precision() -> None:
    subject = Fake()
    ladder = Ladder(subject, {"norms": "int3", "weights": "int8"})
    while ladder.extend():
        pass
    assert ladder.fixed == {"norms": "int3"}, "there are no weights"
    assert {row.storage.norms for row in ladder.choices()} == {"int3"}
    assert ladder.drop(ladder.path[0]) == pytest.approx(0.9)
    assert subject.scored[0] == Storage()


def test_kinds_that_cannot_hold_a_value_are_passed_over() -> None:
    ladder = Ladder(Fake(refused=("fp16", "int8")))
    while ladder.extend():
        pass
    kinds_seen = {kind for row in ladder.rows for kind in kinds(row)}
    assert not kinds_seen & {"fp16", "int8"}
    assert "int4" in kinds_seen


def test_with_a_drop_allowed_the_path_ends_where_all_is_lost() -> None:
    ladder = Ladder(Fake(), max_drop=0.2)
    row = smallest(ladder)
    assert ladder.drop(row) == pytest.approx(0.2), "two parts in 8 bits, a thousandth each"
    assert row.bytes == min(r.bytes for r in ladder.rows if ladder.drop(r) < 0.21)
    assert kinds(row) == ("int8", "int8", "fp16")
    assert all(ladder.drop(row) < 6 for row in ladder.path), "int2 was not looked for"


def test_a_loss_of_nan_is_the_largest() -> None:
    class Broken(Fake):
        def score(self, storage: Storage) -> tuple[float, float]:
            metric, loss = super().score(storage)
            return metric, float("nan") if storage.head == "int8" else loss

    ladder = Ladder(Broken())
    ladder.extend()
    ladder.extend()
    assert ladder.path[-1].storage.head == "fp16"


# ---- budgets


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500KB", 500_000),
        ("40kB", 40_000),
        ("1.5MB", 1_500_000),
        ("38KiB", 38 * 1024),
        (" 2 mib ", 2 * 1024**2),
        ("12345", 12_345),
        ("10b", 10),
        ("1GB", 10**9),
        (".5kb", 500),
    ],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "KB", "500K", "-5", "1e6", "5 apples", "1,000", "0x10", "٣", "9" * 99]
)
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(OptionError, match=r"^--budget '.*': expected a size like 500KB, 1.5MB, "):
        parse_size(text)


@pytest.mark.parametrize(
    "limits", [{"budget": 0}, {"budget": -1}, {"max_drop": -0.1}, {"max_drop": float("nan")}]
)
def test_absurd_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="expected "):
        Limits(**limits)


@pytest.mark.parametrize("budget", [6_000, 3_000, 1_800, 1_000, 700, 560])
def test_one_task_takes_the_most_accurate_row_that_fits(budget: int) -> None:
    ladder = Ladder(Fake())
    row = within_budget({"one": ladder}, sizes, budget)["one"]
    assert 50 + row.bytes <= budget
    fitting = [r for r in ladder.choices() if 50 + r.bytes <= budget]
    assert row.accuracy == max(r.accuracy for r in fitting)


def test_no_more_is_measured_than_the_budget_asks_for() -> None:
    subject = Fake()
    within_budget({"one": Ladder(subject)}, sizes, 10_000)
    assert len(subject.scored) == 1
    within_budget({"one": Ladder(subject)}, sizes, 3_300)
    assert len(subject.scored) == 1 + 2


def test_of_several_tasks_the_sturdier_gives_way_first() -> None:
    fragile = Ladder(Fake({"head": 9, "norms": 9, "coefficients": 9}))
    sturdy = Ladder(Fake())
    taken = within_budget({"fragile": fragile, "sturdy": sturdy}, sizes, 5_200)
    assert sizes(taken) <= 5_200
    assert fragile.drop(taken["fragile"]) == 0
    assert taken["sturdy"].bytes < taken["fragile"].bytes


def test_a_budget_that_cannot_be_met_names_the_smallest_file() -> None:
    ladder = Ladder(Fake())
    with pytest.raises(OptionError) as error:
        within_budget({"one": ladder}, sizes, 100)
    smallest_row = min(ladder.rows, key=lambda row: row.bytes)
    assert str(error.value).startswith(
        f"--budget 100 bytes: the smallest file is {50 + smallest_row.bytes} bytes; "
    )


def test_a_budget_takes_only_what_loses_little_where_that_is_asked() -> None:
    ladder = Ladder(Fake(), max_drop=0.6)
    row = within_budget({"one": ladder}, sizes, 2_000)["one"]
    assert ladder.drop(row) <= 0.6
    with pytest.raises(OptionError, match="the smallest file is"):
        within_budget({"one": Ladder(Fake(), max_drop=0.6)}, sizes, 700)


# ---- what a person sees meanwhile


@pytest.mark.parametrize(("terminal", "quiet"), [(True, False), (False, False), (True, True)])
def test_what_is_measured_shows_on_a_terminal(
    terminal: bool, quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0 if not terminal else 99)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120)
    with progress.Measuring(console, quiet) as watch:
        watch("birds", Row(Storage(), 1234, 0.5, 0.25))
        watch("birds", Row(Storage(head="int4"), 987, 0.5, 0.25))
        watch.say("birds: said")
        watch.say("warning: birds: said anyway")
    shown = screen.getvalue()
    assert "warning: birds: said anyway" in shown
    assert ("birds: said" in shown.replace("warning: birds: said", "")) is not quiet
    if not terminal:
        assert shown.splitlines()[:2] == [
            "birds, combination 1: as it is, 1,234 bytes, validation 0.5000, loss 0.2500",
            "birds, combination 2: head int4, 987 bytes, validation 0.5000, loss 0.2500",
        ]


# ---- real tasks


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on one backbone: three methods with a val split, one without, one by the test split."""
    folder = tmp_path_factory.mktemp("choose")
    data = str(write_pictures(folder / "data"))
    bare = write_pictures(folder / "bare")
    for path in sorted((bare / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (bare / "val").rmdir()
    runs = (
        ("birds", "piggyback", data, "val"),
        ("cars", "ksm", data, "val"),
        ("tuned", "fine-tune", data, "val"),
        ("carved", "piggyback", str(bare), "val"),
        ("peeked", "piggyback", str(bare), "test"),
    )
    for name, method, where, select in runs:
        more: dict[str, Any] = {"data": where, "select": select, "val_fraction": 0.25}
        recipe = {"epochs": 2, "lr": 0.01, "batch_size": 8}
        maskpack.fit(
            "tinynet:build", name, method, output=folder / name, recipe=recipe, norms="task", **more
        )
    return folder


def opened(place: Path, *names: str) -> list[Pack]:
    return [recoded(open_pack(place / name), coded=True) for name in names]


@pytest.mark.parametrize("name", ["birds", "cars", "tuned"])
def test_the_smallest_within_a_drop_is_taken_and_recorded(place: Path, name: str) -> None:
    choices: list[Choice] = []
    [pack] = opened(place, name)
    [done] = choose([pack], Storage(), Limits(max_drop=10), Bases(), show=choices.append)
    info = done.task(name).info
    [choice] = choices
    record = dict(info["storage"])
    assert record["max_drop"] == 10
    assert {part: kind for part, kind in record.items() if part in vars(Storage())} == (
        choice.chosen.storage.changed
    )
    [row] = [row for row in record["table"] if row[-1] is True]
    assert row[:5] == [*vars(choice.chosen.storage).values(), choice.chosen.bytes]
    assert row[4] == sum(task_bytes(done.task(name)).values())
    assert row[4] < sum(task_bytes(pack.task(name)).values()) / 2
    assert record["before"] == {k: pack.task(name).info["test"][k] for k in ("accuracy", "count")}
    json.dumps(info)
    scored = maskpack.score_task(done, name, trust_code=True)
    assert scored["accuracy"] == info["test"]["accuracy"]


def test_only_the_validation_split_chooses(place: Path) -> None:
    [pack] = opened(place, "birds")
    rows: list[Row] = []
    choose([pack], Storage(), Limits(max_drop=1), Bases(), watch=lambda name, row: rows.append(row))
    val = maskpack.score_task(pack, "birds", split="val", trust_code=True)
    assert (rows[0].storage, rows[0].metric) == (Storage(), val["accuracy"])
    assert len({row.storage for row in rows}) == len(rows)


def test_the_table_marks_what_was_chosen(place: Path) -> None:
    choices: list[Choice] = []
    choose(opened(place, "cars"), Storage(), Limits(max_drop=100), Bases(), show=choices.append)
    table = choices[0].table()
    assert list(table[0]) == [
        *("head", "norms", "coefficients", "bytes"),
        *("val accuracy", "val loss", "drop", "chosen"),
    ]
    assert [row["bytes"] for row in table] == sorted((r["bytes"] for r in table), reverse=True)
    assert (table[0]["head"], table[0]["drop"]) == ("fp32", 0)
    assert [row["chosen"] for row in table].count("*") == 1
    assert len(choices[0].record()) <= TOLD_ROWS


def test_pictures_are_prepared_once_and_only_where_they_fit(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[int] = []
    real = measuring.batches

    def noted(*arguments: Any, **options: Any) -> Any:
        prepared.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(measuring, "batches", noted)
    for room, once in ((1 << 30, True), (100, False)):
        prepared.clear()
        rows: list[Row] = []
        monkeypatch.setattr("maskpack.packing.smaller.choose.HELD_BYTES", room)
        choose(
            opened(place, "birds"),
            Storage(),
            Limits(max_drop=1),
            Bases(),
            watch=lambda name, row, rows=rows: rows.append(row),
        )
        assert len(prepared) == (1 if once else len(rows))


def test_the_whole_file_keeps_to_the_budget(place: Path, tmp_path: Path) -> None:
    sources: dict[str, Any] = {name: place / name for name in ("birds", "cars")}
    whole = maskpack.pack(sources, tmp_path / "whole", codec="auto")
    full = (tmp_path / "whole").stat().st_size
    for budget in (full + 2000, full - 400, 3800):
        maskpack.pack(sources, tmp_path / "small", budget=budget)
        assert (tmp_path / "small").stat().st_size <= budget
        tasks = read(tmp_path / "small").tasks
        assert all(task.info["storage"]["budget"] == budget for task in tasks.values())
    roomy = maskpack.pack(sources, tmp_path / "roomy", budget="1MB")
    for name, task in roomy.tasks.items():
        assert set(task.info["storage"]) == {"table", "budget", "before"}
        assert task_bytes(task) == task_bytes(whole.task(name)), "nothing lossy was needed"
        assert task.info["storage"]["before"]["accuracy"] == task.info["test"]["accuracy"]


def test_scores_longer_than_thought_do_not_break_the_budget(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskpack.packing.smaller.choose.DIGITS", (0, 0))
    sources: dict[str, Any] = {"birds": place / "birds"}
    maskpack.pack(sources, tmp_path / "a", codec="auto", head_dtype="fp16", norm_dtype="fp16")
    size = (tmp_path / "a").stat().st_size
    kept = 0
    for budget in range(size + 300, size + 900, 60):  # how long a header is depends on its paths
        with suppress(OptionError):
            maskpack.pack(sources, tmp_path / "b", budget=budget)
            assert (tmp_path / "b").stat().st_size <= budget
            kept += 1
    assert kept


def test_a_budget_too_small_leaves_no_file(place: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--budget 900 bytes: the smallest file is [\d,]+ bytes"):
        maskpack.pack({"birds": place / "birds"}, tmp_path / "no", budget=900)
    assert not (tmp_path / "no").exists()


def test_a_part_given_is_kept_whatever_the_limits(place: Path, tmp_path: Path) -> None:
    sources = {"birds": place / "birds"}
    pack = maskpack.pack(sources, tmp_path / "a", head_dtype="int3", max_drop=100)
    assert pack.task().streams["head"].dtype == "int3"
    assert {row[0] for row in pack.task().info["storage"]["table"]} == {"int3"}
    with pytest.raises(OptionError, match=r"^birds: head rank1-int2 alone loses [\d.]+ points on "):
        maskpack.pack(sources, tmp_path / "b", head_dtype="rank1-int2", max_drop=0)


def test_validation_pictures_that_training_saw_are_said(place: Path) -> None:
    lines: list[str] = []
    for name in ("birds", "carved", "peeked"):
        choose(opened(place, name), Storage(), Limits(max_drop=0), Bases(), say=lines.append)
    warnings = [line for line in lines if line.startswith("warning")]
    assert warnings == [
        "warning: peeked was trained on its validation pictures (--select test); drops may be "
        "larger than those measured"
    ]


def test_held_out_pictures_are_those_of_training(place: Path) -> None:
    pack = open_pack(place / "carved")
    assert pack.task().info["val_fraction"] == 0.25
    row = maskpack.score_task(pack, "carved", split="val")
    assert row["count"] == 6  # a quarter of 8 pictures of each of 3 classes
    assert row["accuracy"] == pack.task().info["best"]["val_accuracy"]


def test_tasks_that_are_not_scored_are_said_to_be_so(tmp_path: Path) -> None:
    import tinynet

    network = maskpack.attach(tinynet.build(), 3)
    lines: list[str] = []
    pack = maskpack.pack({"own": network}, tmp_path / "a", head_dtype="int8", say=lines.append)
    assert lines == ["own, head int8: not scored, since it does not say what it was taught"]
    assert pack.task().info == {"storage": {"head": "int8"}}
    with pytest.raises(MaskpackError, match="does not say what it was taught"):
        maskpack.pack({"own": network}, tmp_path / "b", max_drop=1)


def test_a_pack_made_smaller_twice_says_both(place: Path, tmp_path: Path) -> None:
    once = maskpack.pack({"birds": place / "birds"}, tmp_path / "once", norm_dtype="fp16")
    again = maskpack.pack(
        {"birds": tmp_path / "once"}, tmp_path / "twice", head_dtype="int4", trust_code=True
    )
    assert once.task().info["storage"].keys() == {"norms", "before"}
    found = again.task().info["storage"]
    assert (found["head"], found["norms"]) == ("int4", "fp16")


def test_a_converted_run_says_which_pictures_it_never_saw(place: Path, tmp_path: Path) -> None:
    pack = maskpack.from_checkpoint(place / "tuned", tmp_path / "a", backbone="tinynet:build")
    info = pack.task().info
    assert (info["select"], info["val_fraction"]) == ("val", 0.25)
    small = maskpack.pack({"tuned": pack.path or ""}, tmp_path / "b", budget="4KB", trust_code=True)
    assert (tmp_path / "b").stat().st_size <= 4000
    assert small.task().method == "affine"
