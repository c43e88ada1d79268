"""A folder of slices is taken as it is, or refused with every bad case named."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from service.volume import HounsfieldWindow
from training.data import open_dataset
from training.data.problems import BadDataset


def problems(folder: Path) -> list[str]:
    with pytest.raises(BadDataset) as caught:
        open_dataset(folder, folder / "prepared")
    return [str(problem) for problem in caught.value.problems]


def test_slices_are_what_the_files_hold(write_slices: Callable[[], Path]) -> None:
    """Pixels of liver include tumour; grey stands for the data set's window."""
    data = open_dataset(write_slices(), Path("unused"))
    assert [case.name for case in data.cases] == ["volume-000", "volume-001"]
    first = data.cases[0].slices[0]
    assert (first.liver_px, first.tumor_px) == (2000, 100)
    assert (first.labels() == 2).sum() == 100
    assert first.hu()[22, 12] == round(-40 + 200 * 160 / 255)
    assert data.cases[0].hu().shape == data.cases[0].labels().shape == (3, 128, 128)
    assert data.cases[0].spacing_mm is None


def test_splits_are_those_of_the_manifest(write_slices: Callable[[], Path]) -> None:
    """A split that there is not is refused, and the message names those that there are."""
    data = open_dataset(write_slices(), Path("unused"))
    assert [case.name for case in data.split("val").cases] == ["volume-001"]
    assert [case.name for case in data.without_split("val").cases] == ["volume-000"]
    with pytest.raises(ValueError, match="no case of split test; the data set has train, val"):
        data.split("test")


def test_the_hash_follows_the_content(write_slices: Callable[[], Path]) -> None:
    """Another pixel, or another slice's number, gives another hash; the same files the same one."""
    folder = write_slices()
    before = open_dataset(folder, Path("unused")).sha256
    assert open_dataset(folder, Path("unused")).sha256 == before
    path = folder / "volume-001" / "002.webp"
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    image[0, 0] += 1
    cv2.imwrite(str(path), image, [cv2.IMWRITE_WEBP_QUALITY, 101])
    changed = open_dataset(folder, Path("unused")).sha256
    assert changed != before
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("volume-000,2", "volume-000,5"))
    for suffix in ("webp", "png"):
        (folder / f"volume-000/002.{suffix}").rename(folder / f"volume-000/005.{suffix}")
    assert open_dataset(folder, Path("unused")).sha256 not in (before, changed)


def test_every_bad_case_is_named(write_slices: Callable[[], Path]) -> None:
    """A missing mask, a damaged image, other labels, another shape, other counts: all at once."""
    folder = write_slices()
    one, two = folder / "volume-000", folder / "volume-001"
    (one / "000.png").unlink()
    (one / "001.webp").write_bytes(b"RIFF")
    cv2.imwrite(str(one / "002.png"), np.full((128, 128), 7, np.uint8))
    cv2.imwrite(str(two / "000.png"), np.zeros((64, 64), np.uint8))
    cv2.imwrite(str(two / "001.png"), np.zeros((128, 128), np.uint8))
    (two / "002.png").unlink()
    (two / "002.png").mkdir()
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text() + "volume-002,x,val,0,0\n../volume-000,0,val,0,0\n")
    assert problems(folder) == [
        "manifest.csv: line 8: expected volume, slice, split and two counts of pixels",
        "manifest.csv: line 9: expected the name of a folder beside it, found ../volume-000",
        "volume-000: slice 0: the mask is missing",
        "volume-000: slice 1: image: expected an image, found a damaged file",
        "volume-000: slice 2: expected the labels 0 background, 1 liver, 2 tumour, found also 7",
        "volume-001: slice 0: expected a mask of the image's shape (128, 128), found (64, 64)",
        "volume-001: slice 1: expected (2000, 0) pixels of liver and tumour, found (0, 0)",
        "volume-001: slice 2: the mask is missing",
    ]


@pytest.mark.parametrize(
    ("name", "pixels", "found"),
    [
        ("000.png", np.ones((128, 128, 3), np.uint8), "mask: expected one channel, found 3"),
        ("000.png", np.ones((128, 128), np.uint16), "mask: expected 8 bits, found 16"),
        ("000.webp", np.full((128, 128, 3), (9, 90, 9), np.uint8),
         "image: expected shades of grey, found colours"),
    ],
)  # fmt: skip
def test_colours_and_other_bits_are_refused(
    write_slices: Callable[[], Path], name: str, pixels: np.ndarray, found: str
) -> None:
    """They would be taken for labels, or greys, that nobody meant."""
    folder = write_slices()
    cv2.imwrite(str(folder / "volume-000" / name), pixels)
    assert problems(folder) == [f"volume-000: slice 0: {found}"]


def test_a_wider_window_than_the_images_is_refused(write_slices: Callable[[], Path]) -> None:
    """What lies beyond -40 to 160 HU is lost in the images, and not in what is served."""
    data = open_dataset(write_slices(), Path("unused")).split("train")
    data.check_window(HounsfieldWindow(lower_hu=-40, upper_hu=160))
    with pytest.raises(ValueError, match=r"expected a window within -40 to 160 HU, .* -100 to 160"):
        data.check_window(HounsfieldWindow(lower_hu=-100, upper_hu=160))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "expected a line a slice, found none"),
        ("volume,slice\nvolume-000,0\n", "line 2: expected volume, slice, split and two counts"),
        ('volume,slice\n"volume-000,0\n', "line 2: expected volume, slice, split and two counts"),
        (
            "volume,slice,split,liver_or_tumour_pixels,tumour_pixels\nvolume-000,x,train,0,0\n",
            "line 2: expected volume, slice, split and two counts",
        ),
    ],
)
def test_a_manifest_that_says_nothing_is_refused(tmp_path: Path, text: str, found: str) -> None:
    """Whether it is empty, lacks a column, or holds no number."""
    (tmp_path / "manifest.csv").write_text(text)
    assert found in problems(tmp_path)[0]


def test_slices_of_a_case_are_of_one_size_and_named_once(
    write_slices: Callable[[], Path],
) -> None:
    """A case is one block of slices; other cases may have another size."""
    folder = write_slices()
    for name in ("002.webp", "002.png"):
        cv2.imwrite(str(folder / "volume-000" / name), np.zeros((64, 128), np.uint8))
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text() + "volume-001,1,val,2000,0\n")
    assert problems(folder) == [
        "volume-000: expected slices of one size, found (64, 128) and (128, 128)",
        "volume-001: slice 1: expected one line in manifest.csv, found 2",
    ]


def test_a_manifest_from_a_spreadsheet_is_read(write_slices: Callable[[], Path]) -> None:
    """It starts with a byte order mark."""
    manifest = write_slices() / "manifest.csv"
    manifest.write_bytes(b"\xef\xbb\xbf" + manifest.read_bytes())
    assert len(open_dataset(manifest.parent, Path("unused")).cases) == 2
