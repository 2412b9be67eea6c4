"""Data of every kind becomes the same inputs, sampled the same way; what is wrong with it is said."""

import itertools
import pickle
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evm_deploy.bundle import Preprocessing
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.data import archive, listing
from evm_deploy.data import kinds as data
from evm_deploy.data.samples import Samples, describe_left_out, read_samples
from evm_deploy.errors import EvmDeployError, InputError, OptionError
from evm_deploy.images import list_image_files, load_image
from evm_deploy.preprocessing import preprocess

SIZE = Preprocessing((32, 32))
LABELS = ("cat", "dog", "sea eel")


def pixels(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (36, 40, 3), dtype=np.uint8)


def save(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Class folders: cat with 8 images, one of them deeper, dog with 4."""
    for i in range(7):
        save(tmp_path / "data" / "cat" / f"{i}.png", i)
    save(tmp_path / "data" / "cat" / "more" / "7.png", 7)
    for i in range(4):
        save(tmp_path / "data" / "dog" / f"{i}.jpg", 100 + i)
    return tmp_path / "data"


def summary(samples: Samples) -> list[tuple[str, int | None]]:
    return [(sample.name, sample.label) for sample in samples]


# Kinds


def test_class_folders(tree: Path) -> None:
    samples = read_samples(tree, SIZE, labels=("dog", "cat"))
    assert summary(samples)[::7] == [("cat/0.png", 1), ("cat/more/7.png", 1)]
    assert samples.labels == (1,) * 8 + (0,) * 4
    assert samples.classes == ("dog", "cat")
    expected = preprocess(load_image(tree / "cat" / "3.png"), SIZE)
    np.testing.assert_array_equal(next(s.input for s in samples if s.name == "cat/3.png"), expected)
    assert samples.record()["kind"] == "class folders"


def test_classes_without_labels_are_in_order(tree: Path) -> None:
    samples = read_samples(tree, SIZE)
    assert samples.labels == (0,) * 8 + (1,) * 4
    assert samples.classes == ("cat", "dog")


def test_digits_are_indices_unless_labels_say_so(tmp_path: Path) -> None:
    for name in ("2", "10"):
        save(tmp_path / name / "a.png")
    assert read_samples(tmp_path, SIZE).labels == (10, 2)
    assert read_samples(tmp_path, SIZE, labels=[f"class {i}" for i in range(11)]).labels == (10, 2)
    assert read_samples(tmp_path, SIZE, labels=("10", "7", "2")).labels == (0, 2)
    with pytest.raises(InputError, match="has class 10"):
        read_samples(tmp_path, SIZE, labels=[f"class {i}" for i in range(10)])


def test_labels_match_whatever_their_case_and_underscores(tmp_path: Path) -> None:
    save(tmp_path / "Sea_Eel" / "a.png")
    assert read_samples(tmp_path, SIZE, labels=LABELS).labels == (2,)
    with pytest.raises(InputError, match="label 0 and label 1"):
        read_samples(tmp_path, SIZE, labels=("sea eel", "SEA EEL"))


def test_a_class_folder_that_the_labels_do_not_know(tree: Path) -> None:
    with pytest.raises(InputError, match=r"'dog'.*did you mean 'dogs'"):
        read_samples(tree, SIZE, labels=("cat", "dogs", "eel"))


def test_an_image_folder(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png", i)
    save(tmp_path / "more" / "3.png", 3)
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / ".hidden.png").write_text("text")
    samples = read_samples(tmp_path, SIZE, labels=LABELS)
    assert summary(samples) == [("0.png", None), ("1.png", None), ("2.png", None), ("more/3.png", None)]
    assert samples.record()["ignored"] == ["notes.txt"]
    with pytest.raises(InputError, match="does not give the class"):
        read_samples(tmp_path, SIZE, need_labels=True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "# two\ncat/0.png cat\n\n./dog/1.jpg\tsea eel\n"),
        ("list.txt", "cat/0.png 0\ndog/1.jpg, 2\n"),
        ("list.csv", 'path,class\n"cat/0.png",cat\ndog/1.jpg,"sea eel"\n'),
        ("list.tsv", "cat/0.png\tcat\ndog/1.jpg\tsea eel\n"),
    ],
)
def test_list_files(tree: Path, name: str, text: str) -> None:
    (tree / name).write_text(text)
    samples = read_samples(tree / name, SIZE, labels=LABELS, need_labels=True)
    assert samples.labels == (0, 2)
    assert len(list(samples)) == 2


def test_a_cell_that_is_too_long(tree: Path) -> None:
    (tree / "list.csv").write_text("cat/0.png," + "x" * 200_000)
    with pytest.raises(InputError, match=r"line 1 of .*list\.csv is not CSV"):
        read_samples(tree / "list.csv", SIZE)


def test_a_negative_seed() -> None:
    with pytest.raises(OptionError, match="seed -1"):
        QuantizeOptions(seed=-1)
    with pytest.raises(OptionError, match="seed -1"):
        read_samples("random:4", SIZE, seed=-1)


def test_a_list_without_classes(tree: Path) -> None:
    save(tree / "with space.png")
    (tree / "list.txt").write_text("with space.png\ncat/0.png\n")
    assert summary(read_samples(tree / "list.txt", SIZE)) == [("with space.png", None), ("cat/0.png", None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("../outside.png 0", "leaves the folder"),
        ("/etc/x.png 0", "leaves the folder"),
        ("link.png 0", "leaves the folder"),
        ("cat/0.png 0\ncat/1.png", "some"),
        ("cat", "names no image"),
        ("# nothing", "names no images"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_bad_list_files(tree: Path, text: str | bytes, words: str) -> None:
    save(tree.parent / "outside.png")
    (tree / "link.png").symlink_to(tree.parent / "outside.png")
    (tree / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=words):
        read_samples(tree / "list.txt", SIZE)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_archives(tmp_path: Path, write: Callable[..., None]) -> None:
    images = np.stack([pixels(i) for i in range(5)])
    write(tmp_path / "data.npz", images=images, labels=np.array([2, 0, 1, 1, 0]))
    samples = pickle.loads(pickle.dumps(read_samples(tmp_path / "data.npz", SIZE, labels=LABELS, need_labels=True)))
    assert samples.labels == (2, 0, 1, 1, 0)
    for i in (4, 0, 3):
        np.testing.assert_array_equal(samples.load(i).input, preprocess(images[i], SIZE))
    write(tmp_path / "texts.npz", images=images[:2], labels=np.array(["sea eel", "cat"]))
    assert read_samples(tmp_path / "texts.npz", SIZE, labels=LABELS).labels == (2, 0)


def bad_archives(folder: Path) -> dict[str, Path]:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    np.savez(folder / "float.npz", images=images.astype(np.float32))
    np.savez(folder / "labels.npz", images=images, labels=np.zeros(3, int))
    np.savez(folder / "other.npz", pictures=images)
    np.savez(folder / "objects.npz", images=np.array([{}, {}], object), allow_pickle=True)
    (folder / "text.npz").write_text("text")
    with zipfile.ZipFile(folder / "endless header.npz", "w") as file:
        file.writestr("images.npy", b"\x93NUMPY\x01\x00\x04\x00((((")
    np.savez(folder / "cut.npz", images=images)
    (folder / "cut.npz").write_bytes((folder / "cut.npz").read_bytes()[:-40])
    shapes = (
        "10000000, 1000, 1000, 3",
        f"{2**62}, 4, 4, 3",
        f"{10**30}, 1, 1, 3",
        "-1, 1, 1, 3",
        "True, 1, 1, 3",
        "2.5,",
    )
    for number, shape in enumerate(shapes):  # of which one is 30 TB, and one overflows to zero
        for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            with zipfile.ZipFile(folder / f"shape {number} {kind}.npz", "w", kind) as file:
                header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}\n".encode()
                file.writestr("images.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(9))
    return {path.stem: path for path in folder.glob("*.npz")}


def test_bad_archives(tmp_path: Path) -> None:
    for path in bad_archives(tmp_path).values():
        with pytest.raises(InputError, match=path.name):
            read_samples(path, SIZE)


def test_a_compressed_archive_is_not_unpacked_into_memory(tmp_path: Path) -> None:
    """A file of some kilobytes can hold gigabytes of zeros."""
    images = np.zeros((60, 500, 500, 3), np.uint8)
    np.savez_compressed(tmp_path / "data.npz", images=images)
    tracemalloc.start()
    samples = read_samples(tmp_path / "data.npz", SIZE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(samples) == 60
    assert peak < images.nbytes / 4


def test_a_compressed_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "UNPACKED_BYTES", 1000)
    np.savez_compressed(tmp_path / "data.npz", images=np.zeros((9, 10, 10, 3), np.uint8))
    with pytest.raises(InputError, match="when unpacked"):
        read_samples(tmp_path / "data.npz", SIZE)


def test_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [pixels(i) for i in range(4)]
    lists = read_samples(images, SIZE)
    generated = read_samples((image for image in images), SIZE)
    paired = read_samples([(image, np.int64(i % 2)) for i, image in enumerate(images)], SIZE, need_labels=True)
    assert summary(lists) == summary(generated) == [(f"item {i}", None) for i in range(4)]
    assert paired.labels == (0, 1, 0, 1)
    assert lists.record()["sha256"] == generated.record()["sha256"]
    monkeypatch.setattr(data, "HELD_BYTES", 1000)
    with pytest.raises(InputError, match="generator gives more"):
        read_samples((image for image in images), SIZE)


@pytest.mark.parametrize("items", [[], [(pixels(0), 1), pixels(1)], [(pixels(0), 1.5)], [(pixels(0), -1)], [1], 7])
def test_bad_arrays(items: Any) -> None:
    with pytest.raises(InputError):
        list(read_samples(items, SIZE))


def test_random_data_has_to_be_asked_for(tmp_path: Path) -> None:
    samples = read_samples("random:3", SIZE, seed=5)
    assert len({sample.input.tobytes() for sample in samples}) == 3
    assert samples.record()["kind"] == "random"
    assert summary(samples) == summary(read_samples("random:3", SIZE, seed=5))
    for text in ("random", "random:", "random:0", "random:-3", "random:x"):
        with pytest.raises(OptionError, match="random:32"):
            read_samples(text, SIZE)


def test_baked_preprocessing_gets_bytes(tree: Path) -> None:
    sample = next(iter(read_samples(tree, Preprocessing((32, 32), baked=True))))
    assert (sample.input.dtype, sample.input.shape) == (np.uint8, (1, 32, 32, 3))


# Sampling and shards


def test_a_list_file_has_a_bound_and_is_read_line_by_line(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LIST_LINES", 300_000)
    path = tree / "list.txt"
    path.write_text("#ab\n" * 300_000)
    tracemalloc.start()
    with pytest.raises(InputError, match="names no images"):
        read_samples(path, SIZE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * path.stat().st_size
    path.write_text("#ab\n" * 300_001)
    with pytest.raises(InputError, match="more than 300,000 lines"):
        read_samples(path, SIZE)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 150), st.integers(0, 3))
def test_sampling_gives_each_class_its_share(sizes: list[int], count: int, seed: int) -> None:
    items = [(np.zeros((1, 1, 3), np.uint8), label) for label, size in enumerate(sizes) for _ in range(size)]
    samples = read_samples(items, SIZE, count=count, seed=seed)
    assert len(samples) == len(set(samples.names)) == min(count, len(items))
    assert samples.names == read_samples(items, SIZE, count=count, seed=seed).names
    found = Counter(samples.labels)
    for label, size in enumerate(sizes):
        assert abs(found[label] - size * min(1, count / len(items))) < 1 + 1e-9


def test_another_seed_takes_others() -> None:
    assert len({read_samples("random:50", SIZE, count=10, seed=seed).names for seed in range(5)}) == 5


def test_shards_add_up(tree: Path) -> None:
    whole, main = read_samples(tree, SIZE, count=9), read_samples(tree, SIZE, count=9)
    shards = [pickle.loads(pickle.dumps(main.shard(i, 4))) for i in range(4)]
    names = list(itertools.chain(*(summary(shard) for shard in shards)))
    assert sorted(names) == sorted(summary(whole))
    for shard in shards[::-1]:
        main.add(shard.get_seen())
    assert main.record() == whole.record()


def test_a_shard_passes_what_the_whole_would() -> None:
    items = [np.zeros((4, 4, 3), np.float32 if i in (0, 4, 8) else np.uint8) for i in range(40)]
    assert len(list(read_samples(items, SIZE))) == 37
    assert len(list(read_samples(items, SIZE).shard(0, 4))) == 7


def test_the_record_tells_contents_names_and_classes_apart(tree: Path) -> None:
    def record() -> str:
        samples = read_samples(tree, SIZE)
        assert len(list(samples)) == 12
        return str(samples.record()["sha256"])

    found = [record(), record()]
    save(tree / "cat" / "3.png", 99)
    found.append(record())
    (tree / "cat" / "3.png").rename(tree / "cat" / "3b.png")
    found.append(record())
    (tree / "dog").rename(tree / "ant")
    found.append(record())
    assert found[0] == found[1]
    assert len(set(found)) == 4


# What is wrong


def test_corrupt_images_are_skipped_up_to_a_limit(tree: Path) -> None:
    (tree / "cat" / "2.png").write_text("text")
    samples = read_samples(tree, SIZE)
    assert len(list(samples)) == 11
    assert samples.record()["skipped"] == ["cat/2.png"]
    assert samples.record()["count"] == 11
    (tree / "dog" / "2.jpg").write_bytes((tree / "dog" / "2.jpg").read_bytes()[:300])
    with pytest.raises(
        InputError, match=r"2 of 12 images cannot be used \(1 may be left out: one in ten, but at least one"
    ):
        list(read_samples(tree, SIZE))


def test_one_of_a_few_may_be_corrupt(tmp_path: Path) -> None:
    for index in range(5):
        save(tmp_path / f"{index}.png", index)
    (tmp_path / "3.png").write_text("text")
    assert len(list(read_samples(tmp_path, SIZE))) == 4


def test_every_name_that_images_have(tmp_path: Path) -> None:
    for suffix in ("jpg", "jpeg", "jpe", "jfif", "JFIF", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"a.{suffix}", Image.registered_extensions()[f".{suffix.lower()}"])
    assert len(list(read_samples(tmp_path, SIZE))) == len(list_image_files(tmp_path)) == 12
    (tmp_path / "list.txt").write_text("a.jfif cat\na.jpe dog\n")
    assert read_samples(tmp_path / "list.txt", SIZE).labels == (0, 1)


@pytest.mark.parametrize(("stray", "labelled"), [(0, True), (1, True), (2, False)])
def test_an_image_above_the_class_folders(tree: Path, stray: int, labelled: bool) -> None:
    for index in range(stray):
        save(tree / f"preview {index}.png")
    samples = read_samples(tree, SIZE)
    assert (None not in samples.labels) is labelled
    assert len(samples) == 12 + (0 if labelled else stray)
    if stray == 1:
        (said,) = describe_left_out(samples.record())
        assert said == "1 files were ignored (no images, or above the class folders): preview 0.png"


def test_images_above_one_folder_are_images(tmp_path: Path) -> None:
    for name in ("a.png", *(f"more/{index}.png" for index in range(20))):
        save(tmp_path / name)
    assert len(read_samples(tmp_path, SIZE)) == 21


def test_one_image(tmp_path: Path) -> None:
    save(tmp_path / "one" / "only.png")
    assert summary(read_samples(tmp_path / "one", SIZE)) == summary(read_samples(tmp_path / "one" / "only.png", SIZE))
    (tmp_path / "one" / "only.png").write_text("text")
    with pytest.raises(InputError, match="1 of 1 images"):
        list(read_samples(tmp_path / "one", SIZE))


def test_paths_that_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    (tmp_path / "file.bin").write_text("a")
    for name, words in {
        "empty": "no images: it is empty",
        "texts": "none of its 1 files",
        "file.bin": "not a kind of data",
        "absent": "does not exist.*random:32",
    }.items():
        with pytest.raises(EvmDeployError, match=words) as raised:
            read_samples(tmp_path / name, SIZE)
        assert raised.value.exit_code == 2
    with pytest.raises(OptionError):
        read_samples("random:3", SIZE, count=0)


def test_an_empty_class_folder_would_move_the_others(tree: Path) -> None:
    (tree / "bat").mkdir()
    with pytest.raises(InputError, match="'bat' has no images"):
        read_samples(tree, SIZE)
    assert read_samples(tree, SIZE, labels=("cat", "dog")).labels[-1] == 1
