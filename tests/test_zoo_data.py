"""Images of the zoo: each picture's place, what is left out, and what is said of missing files."""

import gzip
import os

import numpy as np
import pytest

from benchmarks.zoo import data
from benchmarks.zoo.data import load_images, to_float, to_uint8

SQUARE = 32


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SKFISHER_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SKFISHER_ZOO_DATA", raising=False)


@pytest.fixture
def image_module():
    return pytest.importorskip("PIL.Image", reason="pillow is not installed")


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb") as file:
        file.write(header + array.tobytes())


def write_fashion(root, n_train=60, n_test=12, seed=0):
    """Images that can be told apart, each with its label in the first pixel."""
    rng = np.random.default_rng(seed)
    written = {}
    for part, n in (("train", n_train), ("t10k", n_test)):
        labels = rng.integers(0, 10, n, dtype=np.uint8)
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = labels
        write_idx(root / data.FASHION / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(root / data.FASHION / f"{part}-labels-idx1-ubyte.gz", labels)
        written[part] = images
    return written


def write_picture(image_module, path, array):
    """Without loss, whatever the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image_module.fromarray(array).save(path, format="PNG")


def write_photographs(image_module, root, others=3, seed=0):
    """Pictures of 70 x 100: two rows of squares with texture, but for the third column's."""
    rng = np.random.default_rng(seed)
    written = {}
    for name in (*data.OUTSIDE_PICTURES, *(f"other{k}_by_nobody.jpg" for k in range(others))):
        picture = rng.integers(0, 256, (70, 100, 3), dtype=np.uint8)
        picture[:, 64:] = rng.integers(0, 250, 3) + rng.integers(0, 3, (70, 36, 3), dtype=np.uint8)
        write_picture(image_module, root / data.PHOTOGRAPHS / name, picture)
        written[name] = picture
    return written


def as_set(images):
    return {image.tobytes() for image in images}


def test_fashion_images_are_those_of_the_files_within_a_margin_of_two(tmp_path):
    written = write_fashion(tmp_path)
    found = load_images("fashion", tmp_path)
    assert found.channels == 1
    assert found.train.shape == (50, 1, SQUARE, SQUARE)
    assert found.reference.shape == (10, 1, SQUARE, SQUARE)
    both = np.concatenate([found.train, found.reference])
    assert both.dtype == np.uint8
    assert both.sum() == written["train"].sum(dtype=np.int64)
    inner = np.ascontiguousarray(both[:, 0, 2:-2, 2:-2])
    assert as_set(inner) == as_set(written["train"])
    outside = np.ascontiguousarray(found.outside[:, 0, 2:-2, 2:-2])
    assert as_set(outside) == as_set(written["t10k"])


def test_labels_travel_with_their_images(tmp_path):
    write_fashion(tmp_path)
    found = load_images("fashion", tmp_path)
    np.testing.assert_array_equal(found.train[:, 0, 2, 2], found.train_labels)
    np.testing.assert_array_equal(found.reference[:, 0, 2, 2], found.reference_labels)


def test_a_second_load_reads_no_source(tmp_path, monkeypatch):
    write_fashion(tmp_path)
    monkeypatch.setenv("SKFISHER_ZOO_DATA", str(tmp_path))
    first = load_images("fashion")
    monkeypatch.setattr(data.gzip, "open", None)
    second = load_images("fashion")
    for part in ("train", "train_labels", "reference", "reference_labels", "outside"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))


def test_changed_files_are_read_again(tmp_path):
    write_fashion(tmp_path)
    first = load_images("fashion", tmp_path)
    write_fashion(tmp_path, n_train=66, seed=1)
    assert len(load_images("fashion", tmp_path).train) == 55 != len(first.train)


def test_what_was_cut_off_while_writing_is_not_taken_for_images(tmp_path, monkeypatch):
    written = write_fashion(tmp_path)

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(data.np, "savez", full_disk)
        with pytest.raises(OSError, match="no space left"):
            load_images("fashion", tmp_path)
    assert not list(data.cache_folder().iterdir())
    found = load_images("fashion", tmp_path)
    assert len(found.train) + len(found.reference) == len(written["train"])


def test_the_cache_is_the_users_where_none_is_named(monkeypatch):
    monkeypatch.delenv("SKFISHER_ZOO_CACHE")
    assert data.cache_folder().parts[-2:] == (".cache", "skfisher-zoo")


def test_photographs_are_cut_side_by_side_and_flat_squares_left_out(tmp_path, image_module):
    written = write_photographs(image_module, tmp_path)
    found = load_images("photographs", tmp_path)
    assert found.channels == 3
    assert found.train_labels is None
    squares = {
        name: {
            picture[y : y + 32, x : x + 32].transpose(2, 0, 1).tobytes()
            for y in (0, 32)
            for x in (0, 32)
        }
        for name, picture in written.items()
    }
    inside = [s for name, s in squares.items() if name not in data.OUTSIDE_PICTURES]
    assert as_set(found.train) | as_set(found.reference) == set().union(*inside)
    outside = set().union(*(squares[name] for name in data.OUTSIDE_PICTURES))
    assert as_set(found.outside) == outside
    assert not outside & (as_set(found.train) | as_set(found.reference))


def test_every_fifth_square_is_reference_and_none_is_in_training_too(tmp_path, image_module):
    write_photographs(image_module, tmp_path, others=5)
    found = load_images("photographs", tmp_path)
    assert len(found.reference) == 4
    assert len(found.train) == 16
    assert not as_set(found.train) & as_set(found.reference)


def test_a_folder_gives_the_middle_of_each_picture_whatever_its_size(tmp_path, image_module):
    for k in range(40):
        height, width = (48, 80) if k % 2 else (90, 40)
        picture = np.full((height, width, 3), (255, 0, 0), np.uint8)
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        picture[top : top + side, left : left + side] = (0, 100 + k, 255)
        write_picture(image_module, tmp_path / "pictures" / "part" / f"{k:03}.PNG", picture)
    (tmp_path / "pictures" / "notes.txt").write_text("not a picture")
    found = load_images(f"folder:{tmp_path / 'pictures'}")
    assert [len(x) for x in (found.train, found.reference, found.outside)] == [32, 6, 2]
    images = np.concatenate([found.train, found.reference, found.outside])
    assert images.shape == (40, 3, SQUARE, SQUARE)
    assert (images[:, 0] == 0).all()
    assert (images[:, 2] == 255).all()
    assert sorted(images[:, 1, 0, 0]) == list(range(100, 140))


def test_grey_pictures_of_a_folder_become_colour(tmp_path, image_module):
    for k in range(20):
        write_picture(image_module, tmp_path / "grey" / f"{k}.png", np.full((32, 32), k, np.uint8))
    found = load_images(f"folder:{tmp_path / 'grey'}")
    assert found.channels == 3
    np.testing.assert_array_equal(found.train[:, 0], found.train[:, 2])


def test_floats_go_back_to_the_same_bytes():
    pytest.importorskip("torch", reason="torch is not installed")
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    levels.setflags(write=False)
    x = to_float(levels)
    assert (x.min().item(), x.max().item()) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_uint8(x), levels)
    np.testing.assert_array_equal(to_uint8(x.numpy()), levels)


def test_bytes_are_clipped_and_rounded_to_the_nearest():
    steps = np.array([-7.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 1.5])
    assert to_uint8(steps).tolist() == [0, 0, 1, 255]


def test_values_that_diverged_are_refused():
    with pytest.raises(ValueError, match=r"2 values that are not finite.*smaller learning rate"):
        to_uint8(np.array([0.0, np.nan, np.inf]))


def test_only_bytes_become_floats():
    with pytest.raises(ValueError, match="images must be uint8, got float64; to_uint8"):
        to_float(np.zeros(3))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"name='faces'.*fashion, photographs or 'folder:PATH'"):
        load_images("faces")


@pytest.mark.parametrize("name", ["fashion", "photographs"])
def test_missing_files_name_their_package_and_how_to_unpack_it(tmp_path, name):
    package = data.PACKAGES[name]
    match = f"not found under root=.*apt-get download {package} && dpkg-deb -x .*SKFISHER_ZOO_DATA"
    with pytest.raises(FileNotFoundError, match=match):
        load_images(name, tmp_path)


def test_photographs_without_any_to_train_with_are_missing(tmp_path, image_module):
    write_photographs(image_module, tmp_path, others=0)
    with pytest.raises(FileNotFoundError, match=r"\*_by_\*.jpg not found under root="):
        load_images("photographs", tmp_path)


def test_a_truncated_file_is_refused(tmp_path):
    write_fashion(tmp_path)
    path = tmp_path / data.FASHION / "train-images-idx3-ubyte.gz"
    with gzip.open(path) as file:
        content = file.read()
    with gzip.open(path, "wb") as file:
        file.write(content[:-1])
    with pytest.raises(ValueError, match=r"train-images.* is not a whole idx file.*apt-get"):
        load_images("fashion", tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder; give an existing one"):
        load_images(f"folder:{tmp_path / 'nowhere'}")


def test_a_folder_with_few_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has 0 pictures .*give a folder with at least 20"):
        load_images(f"folder:{tmp_path}")


def test_a_file_that_is_no_picture_is_named(tmp_path, image_module):
    for k in range(20):
        (tmp_path / f"{k}.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"\d+\.png cannot be read as a picture .*replace it"):
        load_images(f"folder:{tmp_path}")


def test_nothing_but_whole_files_stays_in_the_cache(tmp_path):
    write_fashion(tmp_path)
    load_images("fashion", tmp_path)
    assert [p.suffix for p in data.cache_folder().iterdir()] == [".npz"]
    assert not any("part" in name for name in os.listdir(data.cache_folder()))
