"""What eval shows: strips of a split, and one picture through one task."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinydense
from PIL import Image
from processes import Done, run, run_here, start
from test_startup import ask
from tinynet import write_pictures

import maskpack
from maskpack.common.errors import DataError, MaskpackError, OptionError, PackFormatError
from maskpack.evaluation.task_row import Bases, score_task
from maskpack.packs.contents import Pack
from maskpack.reports.strips import Example, Maker, read_part, read_strips, write_strips
from maskpack.tasks import open_task
from maskpack.tasks.images import read_image

SIZE = tinydense.SIZE
RECIPE: dict[str, Any] = {"epochs": 1, "batch_size": 4, "opt": "adam", "lr": 1e-2}


def write_maps(folder: Path, count: int = 3) -> Path:
    """images/ and masks/ of 20 px: what is bright is class 1; a corner does not count."""
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((20, 20, 3), 40, np.uint8)
            pixels[5:15, 3 + number : 12 + number] = 200
            Image.fromarray(pixels).save(folder / split / "images" / f"{number}.png")
            classes = (pixels[..., 0] > 100).astype(np.uint8)
            classes[:4, :4] = 255
            Image.fromarray(classes).save(folder / split / "masks" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs of colouring (two files), of a mask of classes, of classification; and their data."""
    folder = tmp_path_factory.mktemp("images")
    tinydense.write_photos(folder / "photos")
    write_maps(folder / "maps")
    write_pictures(folder / "classes", each=2)
    base = tinydense.backbone()

    def fit(task: str, data: str, **more: Any) -> Path:
        made = {"data": str(folder / data), "recipe": RECIPE} | more
        name = more.get("name", task)
        return maskpack.fit(base, task, output=folder / "runs" / name, **made).path

    colouring = fit("colouring", "photos")
    ab = fit("colouring", "photos", name="ab", task_set={"values": "ab"})
    maps = fit("maps", "maps")
    maskpack.pack({"colouring": colouring, "maps": maps}, folder / "zoo")
    maskpack.pack({"colouring": ab}, folder / "other")
    maskpack.fit(
        "tinynet:build",
        "colours",
        output=folder / "runs" / "colours",
        data=str(folder / "classes"),
        recipe={"epochs": 1},
    )
    maskpack.pack({"colours": folder / "runs" / "colours"}, folder / "classified")
    return folder


def bases() -> Bases:
    found = Bases(trust_code=True)
    found.give(tinydense.backbone())
    return found


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"))


def cut(strip: Path) -> dict[str, np.ndarray]:
    """Parts of a strip by name, cut where it says."""
    (row,) = [row for row in read_strips(strip.parent) if row["folder"] == str(strip.parent)]
    (found,) = [picture for picture in row["pictures"] if picture["file"] == strip.name]
    return {name: pixels(read_part(strip, box)) for name, box in found["parts"].items()}


def failed(done: Done) -> str:
    assert (done.code, done.out) == (1, ""), done
    assert "Traceback" not in done.err and done.err.count("\n") == 1
    return done.err


# ---- strips


def test_strips_have_input_output_and_target_as_scored(place: Path, tmp_path: Path) -> None:
    said: list[str] = []
    row = score_task(
        maskpack.read(place / "zoo"),
        "colouring",
        bases=bases(),
        save_images=tmp_path,
        say=said.append,
    )
    folder = tmp_path / "colouring-piggyback"
    assert said == [f"colouring: 4 pictures in {folder}"]
    assert sorted(path.name for path in folder.iterdir()) == [f"000{n}.png" for n in range(1, 5)]
    pictures = open_task("colouring", place / "photos").dataset("test")
    for number in range(4):
        parts = cut(folder / f"{number + 1:04}.png")
        assert list(parts) == ["input", "output", "target"]
        seen = pictures[number][0].resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        assert np.array_equal(parts["input"], pixels(seen.convert("L")))
        assert np.array_equal(parts["target"], pixels(seen))
        assert parts["output"].shape == (SIZE, SIZE, 3)
    (told,) = read_strips(tmp_path)
    assert (told["metric"], told["score"], told["split"]) == ("SSIM", row["SSIM"], "test")
    with Image.open(folder / "0001.png") as strip:
        assert (strip.size, strip.mode) == ((3 * SIZE + 2 * 4, SIZE), "RGB")


def test_outputs_are_what_the_metric_saw(place: Path, tmp_path: Path) -> None:
    row = score_task(maskpack.read(place / "zoo"), "colouring", bases=bases(), save_images=tmp_path)
    parts = [cut(path) for path in sorted((tmp_path / "colouring-piggyback").iterdir())]
    errors = [np.square(p["output"].astype(float) - p["target"]).mean() for p in parts]
    assert np.mean(errors) == pytest.approx(row["MSE"], rel=0.01)  # outputs are rounded to 8 bits


def test_maps_are_drawn_in_their_colours(place: Path, tmp_path: Path) -> None:
    options: Any = {"bases": bases(), "save_images": tmp_path, "images_count": 2}
    score_task(maskpack.read(place / "zoo"), "maps", **options)
    folder = tmp_path / "maps-piggyback"
    assert sorted(path.name for path in folder.iterdir()) == ["0001.png", "0002.png"]
    picture, map_ = open_task("maps", place / "maps").dataset("test")[0]
    parts = cut(folder / "0001.png")
    seen = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    assert np.array_equal(parts["input"], pixels(seen))
    classes = np.asarray(map_.resize((SIZE, SIZE), Image.Resampling.NEAREST))
    palette = np.zeros((256, 3), np.uint8)
    palette[1], palette[255] = (128, 0, 0), (224, 224, 192)
    assert np.array_equal(parts["target"], palette[classes])
    assert {tuple(colour) for colour in parts["output"].reshape(-1, 3)} <= {(0, 0, 0), (128, 0, 0)}


def test_classification_has_no_pictures(place: Path, tmp_path: Path) -> None:
    said: list[str] = []
    pack = maskpack.read(place / "classified")
    score_task(pack, "colours", trust_code=True, save_images=tmp_path / "s", say=said.append)
    assert said == ["colours: no pictures to write, as it makes none"]
    assert list((tmp_path / "s").iterdir()) == []


def test_packs_do_not_overwrite_each_other_and_replace_their_own(
    place: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        for name in ("zoo", "other"):
            pack = maskpack.read(place / name)
            score_task(pack, "colouring", bases=bases(), save_images=tmp_path)
    rows = {Path(row["folder"]).name: row for row in read_strips(tmp_path)}
    assert {name: Path(row["file"]).name for name, row in rows.items()} == {
        "colouring-piggyback": "zoo",
        "colouring-piggyback-2": "other",
    }
    assert len({tuple(p["picture"] for p in row["pictures"]) for row in rows.values()}) == 1
    (tmp_path / "colouring-piggyback" / "0009.png").write_bytes(b"my own")
    score_task(
        maskpack.read(place / "zoo"),
        "colouring",
        bases=bases(),
        save_images=tmp_path,
        images_count=1,
    )
    left = sorted(path.name for path in (tmp_path / "colouring-piggyback").iterdir())
    assert left == ["0001.png", "0009.png"]  # what others put there stays


def test_nothing_is_scored_where_nothing_can_be_written(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pack = maskpack.read(place / "zoo")
    with pytest.raises(MaskpackError, match="file/x: cannot be made"):
        score_task(pack, "maps", data="gone", bases=bases(), save_images=tmp_path / "file" / "x")
    with pytest.raises(OptionError, match="--images-count 0: expected 1 or more"):
        score_task(pack, "maps", bases=bases(), save_images=tmp_path, images_count=0)


def test_eval_writes_them(place: Path) -> None:
    done = run(place, *("eval", "zoo", "other", "--trust-code", "--save-images", "seen", "-j", "0"))
    assert done.code == 0, done.err
    assert "colouring: 4 pictures in seen/colouring-piggyback\n" in done.err
    assert {path.name for path in (place / "seen").iterdir()} == {
        *("colouring-piggyback", "colouring-piggyback-2", "maps-piggyback")
    }
    assert "SSIM" in done.out and "seen" not in done.out


# ---- strips read by others


def example(picture: str = "ab", **sizes: int) -> Example:
    parts = sizes or {"input": 4, "output": 4}
    return Example(picture, {name: Image.new("RGB", (n, n), "red") for name, n in parts.items()})


MAKER = Maker("birds", "birds", "ksm", "task", "zoo", "test", "SSIM", 0.5)


def test_a_target_may_be_left_out(tmp_path: Path) -> None:
    folder, count = write_strips(tmp_path, MAKER, [example()])
    assert (folder.name, count) == ("birds-ksm", 1)
    assert list(cut(folder / "0001.png")) == ["input", "output"]
    (row,) = read_strips(folder)  # the folder itself will do
    assert row["norms mode"] == "task" and row["lower is better"] is False


@pytest.mark.parametrize("name", ["наклейки", "..", "a b/c", ".hidden", "x" * 300, "con\u202e"])
def test_any_name_finds_a_folder(tmp_path: Path, name: str) -> None:
    maker = dataclasses.replace(MAKER, task=name, method="m:M")
    folder, _ = write_strips(tmp_path / "s", maker, [example()])
    assert folder.parent == tmp_path / "s" and not folder.name.startswith(".")
    other = dataclasses.replace(maker, file="elsewhere")
    assert write_strips(tmp_path / "s", other, [example()])[0] != folder
    assert len(read_strips(tmp_path / "s")) == 2


def lying(path: Path, **changes: Any) -> None:
    """A strip with other text in it."""
    from PIL.PngImagePlugin import PngInfo

    with Image.open(path) as strip:
        about = json.loads(strip.info["maskpack"]) | changes
        told = PngInfo()
        told.add_text("maskpack", json.dumps(about))
        strip.save(path, pnginfo=told)


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": {"input": [0, 0, 99, 4]}},
        {"parts": {"input": [3, 0, 3, 4]}},
        {"parts": {"input": "abcd"}},
        {"parts": {"<b>": [0, 0, 4, 4]}},
        {"parts": {}},
        {"parts": 3},
        {"task": 3},
        {"method": None},
        {"picture": []},
        {"format": 2},
        {"score": 10**400},
    ],
)
def test_a_strip_that_lies_is_passed_over(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder, _ = write_strips(tmp_path, MAKER, [example(), example("cd")])
    lying(folder / "0001.png", **changes)
    (folder / "0003.png").write_bytes(b"\x89PNG no")
    Image.new("RGB", (3, 3)).save(folder / "photo.png")
    if "score" in changes:
        assert read_strips(tmp_path)[0]["score"] is None
        return
    assert [p["file"] for p in read_strips(tmp_path)[0]["pictures"]] == ["0002.png"]


def test_a_folder_without_strips_is_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(DataError, match=r"no strips there|cannot be read"):
            read_strips(folder)


def test_strips_are_read_without_torch(tmp_path: Path) -> None:
    write_strips(tmp_path, MAKER, [example()])
    code = "from pathlib import Path; from maskpack.reports.strips import read_strips; "
    found = ask(code + "print(len(read_strips(Path('.'))))", tmp_path)
    assert found == (0, ["PIL"], "1\n")


# ---- one picture


def test_one_picture_is_what_evals_strip_shows(place: Path, tmp_path: Path) -> None:
    pack = maskpack.read(place / "zoo")
    score_task(pack, "colouring", bases=bases(), save_images=tmp_path)
    score_task(pack, "maps", bases=bases(), save_images=tmp_path)
    for task in ("colouring", "maps"):
        data = place / ("photos" if task == "colouring" else "maps")
        picture = open_task(task, data).dataset("test")[0][0]
        # of the size that the network sees, so that nothing is resized afterwards
        small = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        made = maskpack.apply_image(pack, small, task, bases=bases())
        strip = cut(tmp_path / f"{task}-piggyback" / "0001.png")
        assert np.array_equal(pixels(made), strip["output"])
        whole = maskpack.apply_image(pack, picture, task, bases=bases())
        assert whole.size == picture.size == (20, 20)


@pytest.mark.parametrize("values", ["rgb", "ab"])
def test_a_picture_is_never_cropped(place: Path, tmp_path: Path, values: str) -> None:
    pack = maskpack.read(place / ("zoo" if values == "rgb" else "other"))
    wide = Image.new("RGB", (50, 20), "navy")
    made = maskpack.apply_image(pack, wide, "colouring", img_size=32, bases=bases())
    assert (made.size, made.mode) == ((50, 20), "RGB")


def test_the_command_writes_what_python_gives(place: Path, tmp_path: Path) -> None:
    picture = place / "photos" / "test" / "1.png"
    expected = pixels(maskpack.apply_image(place / "zoo", picture, "colouring", trust_code=True))
    more = ("--trust-code", "--device", "cpu")
    at = (*("eval", str(place / "zoo"), "--task", "colouring"), "--image", str(picture), *more)
    done = run(tmp_path, *at, "-o", "out.png")
    assert (done.code, done.out, done.err) == (0, "out.png\n", "")
    assert np.array_equal(pixels(read_image(tmp_path / "out.png")), expected)
    piped = start(tmp_path, *at, "-o", "-")
    piped.process.join(60)
    assert piped.process.exitcode == 0
    assert np.array_equal(pixels(Image.open(io.BytesIO(piped.out.read_bytes()))), expected)
    for ending in ("JPG", "bmp", "webp"):
        assert run(tmp_path, *at, "-o", f"out.{ending}", "--img-size", "32").code == 0
        assert read_image(tmp_path / f"out.{ending}").size == (20, 20)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_an_option_goes_to_the_tasks_that_have_it(place: Path) -> None:
    at = ("eval", "zoo", "classified", "--trust-code", "--device", "cpu", "--json", "-j", "0")
    plain, same = (
        json.loads(run_here(place, *at, *more).out) for more in ((), ("--task-set", "values=rgb"))
    )
    assert plain == same and [row["task"] for row in plain] == ["colouring", "maps", "colours"]
    said = failed(run_here(place, *at, "--style", "gogh.jpg"))
    assert "unknown option of the tasks 'style'; known: loss, values" in said


def test_the_only_task_needs_no_name_nor_its_data(place: Path, tmp_path: Path) -> None:
    alone = maskpack.read(place / "other")
    info = dict(alone.task().info)
    del info["data"]
    bare = Pack(alone.backbone, {"colouring": dataclasses.replace(alone.task(), info=info)})
    made = maskpack.apply_image(bare, Image.new("RGB", (9, 7)), bases=bases())
    assert made.size == (9, 7)


def test_classes_of_one_picture_are_those_it_is_scored_with(place: Path) -> None:
    pack = maskpack.read(place / "classified")
    pictures = open_task("colours", place / "classes").dataset("test")
    right = 0
    for index in range(len(pictures)):
        picture, label = pictures[index]
        rows = maskpack.classify_image(pack, picture, trust_code=True)
        assert [row["task"] for row in rows] == ["colours"] * 3
        shares = [row["probability"] for row in rows]
        assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)
        right += rows[0]["class"] == ("bright", "dark", "red")[label]
    assert right / len(pictures) == score_task(pack, "colours", trust_code=True)["accuracy"]


def test_classes_are_printed_as_any_table(place: Path) -> None:
    at = ("eval", "classified", "--trust-code", "--image", "photos/test/0.png")
    done = run_here(place, *at, "--json")
    rows = json.loads(done.out)
    assert len(rows) == 3 and rows[0].keys() == {"task", "class", "probability"}
    assert run_here(place, *at).out.startswith("# likeliest classes\ntask\tclass\tprobability\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("zoo", "--image", "i.png", "-o", "o.png"), "zoo: say which task; it has colouring, maps"),
        (("zoo", "--task", "colour", "--image", "i.png"), "did you mean 'colouring'"),
        (("other", "--image", "i.png"), "colouring makes a picture: say where to, -o FILE"),
        (("other", "--image", "gone.png", "-o", "o.png"), "gone.png: no such picture"),
        (("other", "--image", "zoo", "-o", "o.png"), "zoo: cannot be read as an image"),
        (
            ("other", "--image", "i.png", "-o", "o.psd"),
            "o.psd: expected a name that ends in one of",
        ),
        (("other", "--image", "i.png", "-o", "no/o.png"), "no/o.png: cannot be written: there is"),
        (("other", "zoo", "--image", "i.png", "-o", "o.png"), "one task of one pack; 2 packs were"),
        (("zoo", *("--task", "a", "--task", "b"), "--image", "i.png"), "2 tasks were given"),
        (("other", "-o", "o.png"), "--output goes with --image FILE"),
        (("other", "--img-size", "8"), "--img-size goes with --image FILE"),
        (("other", "--images-count", "8"), "--images-count goes with --save-images DIR"),
        (("other", "--image", "i.png", "--save-images", "s"), "--image scores nothing"),
        (("classified", "--image", "i.png", "-o", "o.png"), "colours is classification"),
        (("other", "--image", "i.png", "-o", "o.png", "--img-size", "0"), "img_size is 0"),
        (("other", "--image", "i.png", "-o", "o.png", "--img-size", "1"), "choose another --img-s"),
    ],
)
def test_what_is_wrong_is_one_line(place: Path, arguments: tuple[str, ...], said: str) -> None:
    Image.new("RGB", (20, 20), "teal").save(place / "i.png")
    assert said in failed(run_here(place, "eval", *arguments, "--trust-code"))
    assert not list(place.glob("o.*"))


# ---- headers that lie

GOOD = {"name": "colouring", "kind": "colouring", "metric": "SSIM", "options": {"values": "rgb"}}
PLAIN = GOOD | {"options": {}}


@pytest.mark.parametrize(
    ("about", "error"),
    [
        ("colouring", (OptionError, PackFormatError)),
        ([], (OptionError, PackFormatError)),
        (GOOD | {"kind": []}, PackFormatError),
        (GOOD | {"kind": "magic"}, OptionError),
        (GOOD | {"options": 3}, PackFormatError),
        (GOOD | {"options": {"values": "cmyk"}}, OptionError),
        (GOOD | {"options": {"values": "ab"}}, PackFormatError),  # two channels; the head has three
        (GOOD | {"options": {3: 4}}, MaskpackError),
        ({key: GOOD[key] for key in GOOD if key != "name"}, PackFormatError),
        (PLAIN | {"kind": "segmentation"}, PackFormatError),  # without classes
        (PLAIN | {"kind": "segmentation", "classes": 9}, PackFormatError),
        (PLAIN | {"kind": "segmentation", "classes": ["one"]}, DataError),
        (PLAIN | {"kind": "segmentation", "classes": list("abcd")}, PackFormatError),
    ],
)
def test_a_task_that_lies_is_said_so(place: Path, about: Any, error: Any) -> None:
    pack = maskpack.read(place / "zoo")
    task = pack.task("colouring")
    bad = dataclasses.replace(task, info=task.info | {"task": about})
    picture = Image.new("RGB", (20, 20))
    with pytest.raises(error) as raised:
        maskpack.apply_image(Pack(pack.backbone, {"colouring": bad}), picture, bases=bases())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["preprocess", "augment"])
@pytest.mark.parametrize("value", [None, 3, {"img_size": "x"}, {"mean": 3}, {"scale": 7}])
def test_a_header_that_does_not_say_how_pictures_go_in(place: Path, key: str, value: Any) -> None:
    pack = maskpack.read(place / "zoo")
    task = pack.task("colouring")
    bad = dataclasses.replace(task, info=task.info | {key: value})
    with pytest.raises(PackFormatError, match="how a picture goes in"):
        maskpack.apply_image(
            Pack(pack.backbone, {"colouring": bad}), Image.new("RGB", (20, 20)), bases=bases()
        )


@pytest.mark.parametrize("classes", [None, 3, ["a"], [1, 2, 3], ["a", "b", "c", "d"]])
def test_classes_that_are_not_the_heads(place: Path, classes: Any) -> None:
    pack = maskpack.read(place / "classified")
    about = pack.task().info["task"] | {"classes": classes}
    bad = dataclasses.replace(pack.task(), info=pack.task().info | {"task": about})
    lying_ = Pack(pack.backbone, {"colours": bad})
    with pytest.raises(PackFormatError, match="does not name the network's 3 classes"):
        maskpack.classify_image(lying_, Image.new("RGB", (16, 16)), trust_code=True)
