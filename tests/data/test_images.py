"""Pictures: of any kind to RGB, whole or refused, found under the names that annotations give them."""

from __future__ import annotations

import io
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from lgmpose.data.images import decode_image, find_pictures, folder_with_most, normalise, read_annotated, read_image
from lgmpose.data.lspet import load_lspet
from lgmpose.data.prepare.fetch import extract
from lgmpose.errors import UserError

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def encoded(array: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, array)[1].tobytes()


def jpeg(size_wh=(48, 32), **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).resize(size_wh).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_kinds_of_pictures_become_rgb():
    bgr = COLOURS[..., ::-1]
    np.testing.assert_array_equal(decode_image(encoded(bgr), "a"), COLOURS)
    grey = COLOURS[..., 0]
    np.testing.assert_array_equal(decode_image(encoded(grey), "a"), np.repeat(grey[..., None], 3, 2))
    alpha = np.dstack([bgr, np.full((6, 8), 7, np.uint8)])
    np.testing.assert_array_equal(decode_image(encoded(alpha), "a"), COLOURS)
    np.testing.assert_array_equal(decode_image(encoded(bgr.astype(np.uint16) * 257), "a"), COLOURS)
    for data in (b"", b"not a picture", encoded(bgr)[:30]):
        with pytest.raises(UserError, match="photo.png"):
            decode_image(data, "photo.png")


def test_exif_turns_a_picture_unless_its_annotations_say_otherwise(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(exif=exif))
    assert read_image(path).shape == (48, 32, 3) and read_image(path, apply_exif=False).shape == (32, 48, 3)
    np.testing.assert_array_equal(read_annotated(path, (48, 32)), read_image(path))
    for stated_hw in ((32, 48), None):
        np.testing.assert_array_equal(read_annotated(path, stated_hw), read_image(path, apply_exif=False))
    with pytest.raises(UserError, match="photo.jpg.* 32 .* 48 .* 30 .* 48"):
        read_annotated(path, (30, 48))
    np.testing.assert_array_equal(read_annotated(path, (32, 48), as_shown=True), read_image(path, apply_exif=False))
    exif[0x0112] = 3  # upside down: the size does not tell
    path.write_bytes(jpeg(exif=exif))
    np.testing.assert_array_equal(read_annotated(path, (32, 48)), read_image(path, apply_exif=False))
    np.testing.assert_array_equal(read_annotated(path, (32, 48), as_shown=True), read_image(path))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".avif"])
def test_every_orientation_of_every_kind(tmp_path, suffix, orientation):
    """Pillow is the reference."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :16], stored[16:, :24] = (250, 10, 10), (10, 10, 250)
    path = tmp_path / f"photo{suffix}"
    try:
        Image.fromarray(stored).save(path, exif=exif)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    except (KeyError, OSError):
        pytest.skip("this Pillow has no AVIF")
    found = read_image(path).astype(int)
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 5
    if suffix != ".tiff":  # OpenCV turns all of these
        assert np.abs(read_image(path, apply_exif=False) - stored.astype(int)).mean() < 5


def test_a_jpeg_must_be_whole_but_may_have_more_behind_it(tmp_path, monkeypatch):
    """OpenCV 5 refuses a cut JPEG, OpenCV 4 fills it with grey: its decoder is stood in for."""
    thumbnail = Image.Exif()
    thumbnail[0x9286] = jpeg((8, 8))  # a whole JPEG in the header, end marker included
    path = tmp_path / "photo.jpg"
    for whole in (jpeg(), jpeg(progressive=True), jpeg(exif=thumbnail), jpeg() + b"a film\xff\xd9"):
        path.write_bytes(whole)
        assert read_image(path).shape == (32, 48, 3)
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: np.zeros((32, 48, 3), np.uint8))
    for whole in (jpeg(quality=95), jpeg(exif=thumbnail), jpeg(progressive=True)):
        path.write_bytes(whole + b"a film")
        assert read_image(path).shape == (32, 48, 3)
        for length in (len(whole) - 2, len(whole) - 60, len(whole) // 2, 3):
            path.write_bytes(whole[:length])
            with pytest.raises(UserError, match="photo.jpg"):
                read_image(path)
    (tmp_path / "really.png").write_bytes(jpeg()[:-60])  # a JPEG by its content
    with pytest.raises(UserError, match="really.png"):
        read_image(tmp_path / "really.png")
    with pytest.raises(UserError, match="absent.jpg"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(UserError, match=tmp_path.name):
        read_image(tmp_path)


def test_pictures_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("images/a.png", encoded(COLOURS[..., ::-1]))
    np.testing.assert_array_equal(read_image(f"{tmp_path}/set.zip!images/a.png"), COLOURS)
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    for path in ("set.zip!images/b.png", "bad.zip!images/a.png", "absent.zip!images/a.png"):
        with pytest.raises(UserError, match=path.split("!")[0]):
            read_image(f"{tmp_path}/{path}")


@pytest.mark.parametrize("flag", [1, 0x800], ids=["encrypted", "a name that is no text"])
def test_a_zip_that_cannot_be_read_is_named(tmp_path, flag):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("joints.mat", "images/im.jpg" if flag == 1 else "images/im\u00e9.jpg"):
            archive.writestr(name, b"1")
    data = bytearray(buffer.getvalue().replace("\u00e9".encode(), b"\xc3\xc3"))
    start = data.index(b"PK\1\2")  # the first entry of the list of files, and what stands before the file itself
    data[start + 8 : start + 10] = data[6:8] = flag.to_bytes(2, "little")
    (tmp_path / "set.zip").write_bytes(data)
    for use in (
        lambda: read_image(f"{tmp_path}/set.zip!joints.mat"),
        lambda: extract(tmp_path / "set.zip", tmp_path / "out"),
        lambda: load_lspet(tmp_path / "set.zip"),
    ):
        with pytest.raises(UserError, match="set.zip"):
            use()


def test_pictures_are_found_by_name(tmp_path):
    for name in ("a.png", "sub/b.png", "Ko\u0308ln.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ["a.png", "sub\\b.png", "K\u00f6ln.png", "a.png"]
    expected = {"a.png": "a.png", "sub\\b.png": "sub/b.png", "K\u00f6ln.png": "Ko\u0308ln.png"}
    assert find_pictures(tmp_path, names, "list.json") == {k: str(tmp_path / v) for k, v in expected.items()}
    (tmp_path / "empty").mkdir()
    for name in names[1:]:
        assert folder_with_most([tmp_path / "empty", tmp_path], [name]) == tmp_path
    with pytest.raises(UserError, match=r"b.png.*2 of the 3 .*list.json"):
        find_pictures(tmp_path, ["a.png", "b.png", "c" * 5000], "list.json")
    with pytest.raises(UserError, match="nowhere"):
        find_pictures(tmp_path / "nowhere", ["a.png"], "list.json")


def test_normalise_is_the_textbooks():
    crops = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), np.uint8)
    expected = (crops / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    found = normalise(crops)
    assert found.dtype == np.float32 and found.shape == (2, 3, 6, 8)
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), atol=1e-6)
    other = (crops / 255 - (0.5, 0.4, 0.3)) / (1, 0.5, 0.25)
    found = normalise(crops, mean=(0.5, 0.4, 0.3), std=(1, 0.5, 0.25))
    np.testing.assert_allclose(found, other.transpose(0, 3, 1, 2), atol=1e-6)
