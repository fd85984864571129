"""PNG and JPEG as scans, masks and annotations: the numbers of other programs, and refusals by name."""

import struct
import time
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology import LabelImage, open_scan, scan_digest
from cytonet_pipeline.histology.formats import picture

GREY = np.random.default_rng(0).integers(0, 256, (40, 56), dtype=np.uint8)
COLOURS = np.stack([GREY, GREY[::-1], 255 - GREY], -1)
LUMINANCE = (COLOURS @ np.array([299, 587, 114]) + 500) // 1000


def saved(path, pixels, mode=None, **options):
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels, mode)).save(path, **options)
    return path


def whole(path, **options):
    with open_scan(path, 1.0, **options) as scan:
        scan.verify()
        return scan.thumbnail(scan.width_px)


def labels(path, **options):
    return LabelImage.open(path, 56.0, 40.0, **options).labels


def test_a_png_is_read_as_another_decoder_reads_it(tmp_path):
    sixteen = GREY.astype(np.uint16) * 257
    for name, pixels in {"grey": GREY, "rgb": COLOURS, "sixteen": sixteen}.items():
        (tmp_path / f"{name}.png").write_bytes(imagecodecs.png_encode(pixels))

    np.testing.assert_array_equal(whole(tmp_path / "grey.png"), GREY)
    np.testing.assert_array_equal(whole(tmp_path / "rgb.png"), LUMINANCE)
    np.testing.assert_array_equal(whole(tmp_path / "sixteen.png"), GREY)
    np.testing.assert_array_equal(labels(tmp_path / "sixteen.png"), sixteen)


def test_a_jpeg_is_read_as_another_decoder_reads_it(tmp_path):
    path = tmp_path / "scan.jpg"
    path.write_bytes(imagecodecs.jpeg_encode(COLOURS, level=90))
    expected = imagecodecs.jpeg_decode(path.read_bytes()) @ np.array([0.299, 0.587, 0.114])

    assert np.abs(whole(path) - expected).max() < 4
    with open_scan(path, 1.0) as scan:
        assert (scan.bits, scan.levels, scan.compression) == (8, [(40, 56)], "JPEG")


def test_what_is_transparent_lies_on_white(tmp_path):
    """Programs store black where nothing is; dark is tissue."""
    alpha = np.where(np.arange(56) < 20, 0, 255) * np.ones((40, 1))
    rgba = np.dstack([COLOURS * (alpha > 0)[..., None], alpha]).astype(np.uint8)

    found = whole(saved(tmp_path / "a.png", rgba))

    assert (found[:, :20] == 255).all()
    np.testing.assert_array_equal(found[:, 20:], LUMINANCE[:, 20:])
    assert (whole(saved(tmp_path / "t.png", GREY, transparency=0))[GREY == 0] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_numbers_of_a_label_image_are_those_stored(mode, tmp_path):
    numbers = (GREY % (2 if mode == "1" else 7)).astype(np.uint8)
    image = Image.fromarray(numbers * 255).convert("1") if mode == "1" else Image.fromarray(numbers)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 8, 1, 1, 3, 4, 5])
    path = saved(tmp_path / "l.png", image, bits=4) if mode == "P" else saved(tmp_path / "l.png", image)

    np.testing.assert_array_equal(labels(path), numbers)
    np.testing.assert_array_equal(labels(path, is_mask=True), numbers)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_values_of_fewer_bits_are_numbers_too(depth, tmp_path):
    numbers = GREY % 2**depth
    bits = (numbers[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(40, -1), axis=1)
    path = tmp_path / "l.png"
    path.write_bytes(png(56, 40, depth, 0, b"".join(b"\0" + row.tobytes() for row in rows)))

    np.testing.assert_array_equal(labels(path), numbers)
    np.testing.assert_array_equal(whole(path), numbers * (255 // (2**depth - 1)))


def png(width, height, depth, colour, rows, *extra):
    """Write a PNG by hand."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *extra]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_a_mask_painted_in_black_and_white_is_a_mask_in_any_kind_of_png(tmp_path):
    mask = np.where(GREY > 128, 255, 0).astype(np.uint8)
    palette = Image.fromarray((mask > 0).astype(np.uint8))
    palette.putpalette([255, 255, 255, 0, 0, 0])
    kinds = {
        "rgb": np.stack([mask] * 3, -1),
        "rgba": np.dstack([mask, mask, mask, np.full_like(mask, 255)]),
        "grey": mask,
    }

    for name, pixels in kinds.items():
        assert ((labels(saved(tmp_path / f"{name}.png", pixels), is_mask=True) > 0) == (mask > 0)).all()
    # Number 1 is shown black: people see what is light as the mask.
    seen = labels(saved(tmp_path / "p.png", palette), is_mask=True)
    assert ((seen > 0) == (mask == 0)).all()
    with pytest.raises(ScanError, match="shows its numbers as other grey values"):
        labels(tmp_path / "p.png")


def test_a_jpeg_of_black_and_white_is_a_mask_and_never_an_annotation(tmp_path):
    y, x = np.mgrid[:400, :560]
    disc = (np.hypot(y - 200, x - 280) < 150) * np.uint8(255)
    path = saved(tmp_path / "m.jpg", disc, quality=80)

    found = LabelImage.open(path, 56.0, 40.0, is_mask=True).labels

    assert set(np.unique(found)) == {0, 255}
    assert (found != disc).mean() < 1e-3
    with pytest.raises(ScanError, match="is a JPEG, which changes the numbers"):
        LabelImage.open(path, 56.0, 40.0)


@pytest.mark.parametrize(
    ("pixels", "options", "fault"),
    [
        (COLOURS, {}, "holds colours"),
        (np.dstack([GREY, GREY, GREY, GREY]), {}, "is transparent in places"),
        ((GREY > 128).astype(np.uint8), {"format": "JPEG"}, "not black and white"),
        (GREY, {"format": "JPEG"}, "not black and white"),
    ],
)
def test_a_picture_that_is_no_mask_is_refused(pixels, options, fault, tmp_path):
    path = saved(tmp_path / "m.png", pixels, **options)

    with pytest.raises(ScanError, match=fault) as error:
        labels(path, is_mask=True)

    assert str(path) in error.value.what
    assert error.value.to_fix


def test_a_size_that_is_too_large_is_refused_before_anything_is_decoded(tmp_path):
    bomb, jpeg = tmp_path / "bomb.png", tmp_path / "bomb.jpg"
    bomb.write_bytes(png(100_000, 100_000, 8, 2, b""))
    sound = bytearray(saved(tmp_path / "s.jpg", GREY).read_bytes())
    at = sound.index(b"\xff\xc0") + 5
    sound[at : at + 4] = b"\xff\xdc\xff\xdc"
    jpeg.write_bytes(sound)
    began = time.perf_counter()

    for path in (bomb, jpeg):
        with pytest.raises(ScanError, match="px are too many for one piece"):
            open_scan(path, 1.0)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("name", "fault"), [("cmyk.jpg", "kind CMYK"), ("deep.png", "16 bit of kind RGB"), ("turned.jpg", "orientation 6")]
)
def test_kinds_that_are_not_read_are_refused(name, fault, tmp_path):
    path = tmp_path / name
    exif = Image.Exif()
    exif[0x0112] = 6
    if name == "cmyk.jpg":
        saved(path, Image.fromarray(COLOURS).convert("CMYK"))
    elif name == "deep.png":
        path.write_bytes(imagecodecs.png_encode(COLOURS.astype(np.uint16) * 257))
    else:
        saved(path, COLOURS, exif=exif)

    with pytest.raises(ScanError, match=fault):
        open_scan(path, 1.0)


def test_the_resolution_is_not_believed(tmp_path):
    path = saved(tmp_path / "s.png", GREY, dpi=(300, 300))

    assert open_scan(path, 1.0).file_pixel_um is None
    with pytest.raises(ScanError, match="how large its pixels are"):
        open_scan(path)


def test_the_digest_sees_every_byte(tmp_path):
    digests = {scan_digest(saved(tmp_path / f"{i}.png", np.where(np.arange(56) == i, 0, GREY))) for i in range(5)}
    assert len(digests) == 5


def test_the_limit_leaves_no_room_for_a_chunk_that_is_too_large():
    from cytonet_pipeline.histology.formats.levels import LARGEST_CHUNK

    assert 4 * picture.LARGEST_PX <= LARGEST_CHUNK


SOUND = ["grey.png", "colours.jpg", "palette.png", "sixteen.png", "transparent.png"]


def _sound(name, folder):
    pixels = {
        "palette.png": Image.fromarray(COLOURS).quantize(16),
        "sixteen.png": GREY.astype(np.uint16) * 257,
        "transparent.png": np.dstack([COLOURS, GREY]),
        "grey.png": GREY,
    }
    return saved(folder / f"sound-{name}", pixels.get(name, COLOURS)).read_bytes()


@pytest.mark.parametrize("name", SOUND)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_give_pixels_or_a_scan_error(name, data, tmp_path):
    sound = _sound(name, tmp_path)
    damaged = bytearray(sound)
    where = st.one_of(st.integers(0, 60), st.integers(0, len(sound) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(where)] = data.draw(st.sampled_from([0, 1, 2, 7, 127, 128, 254, 255]))
    if name.endswith("png"):
        damaged = _with_checksums(damaged)
    path = tmp_path / name
    path.write_bytes(damaged[: data.draw(st.one_of(st.none(), st.integers(0, len(sound))))])

    for read in (
        lambda: whole(path),
        lambda: labels(path, is_mask=True),
        lambda: labels(path),
        lambda: scan_digest(path),
    ):
        try:
            read()
        except ScanError as error:
            assert str(path) in error.what  # noqa: PT017


def _with_checksums(data):
    """Correct the checksums of a PNG, so that what is damaged is not only noticed by them."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return data
