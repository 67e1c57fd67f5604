"""Each format gives back the values, axes, pixel size and channel names that were written."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pellucid.errors import BadImage
from pellucid.images import read_images


def only(path: Path, **settings):
    images = read_images(path, **settings)
    return images, images.tensor()[0].numpy()


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_grey_png_is_divided_by_the_largest_number_of_its_type(tmp_path, rng, dtype, largest):
    stored = rng.integers(0, largest + 1, (6, 5), dtype=dtype)
    Image.fromarray(stored).save(tmp_path / "a.png")
    images, values = only(tmp_path / "a.png")
    assert images.record.axes == "CYX"
    assert images.shape == (1, 6, 5)
    assert images.record.display_range == (0.0, 1.0)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[0], stored / largest, rtol=1e-6)


def test_colour_png_has_its_channels_first_and_named(tmp_path, rng):
    stored = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png")
    images, values = only(tmp_path / "a.png")
    assert images.record.channels == ("red", "green", "blue")
    np.testing.assert_allclose(values, stored.transpose(2, 0, 1) / 255, rtol=1e-6)


def test_jpeg_reads_as_pillow_decodes_it(tmp_path, rng):
    stored = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.JPG", format="JPEG")
    with Image.open(tmp_path / "a.JPG") as image:
        decoded = np.array(image)
    _, values = only(tmp_path / "a.JPG")
    np.testing.assert_allclose(values, decoded.transpose(2, 0, 1) / 255, rtol=1e-6)


def test_palette_becomes_colours_in_an_image_and_stays_numbers_in_a_mask(tmp_path):
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    image = Image.fromarray(numbers).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "images" / "a.png")
    image.save(tmp_path / "masks" / "a.png")
    images = read_images(tmp_path / "images", masks=tmp_path / "masks")
    assert images.shape == (3, 3, 4)
    torch.testing.assert_close(images.tensor()[0].argmax(0), torch.from_numpy(numbers.astype(np.int64)))
    assert torch.equal(images.mask("masks")[0], torch.from_numpy(numbers.astype(np.int64)))


def test_opaque_alpha_is_dropped_and_any_other_refused(tmp_path, rng):
    stored = rng.integers(0, 256, (6, 5, 4), dtype=np.uint8)
    stored[..., 3] = 255
    Image.fromarray(stored).save(tmp_path / "a.png")
    assert only(tmp_path / "a.png")[1].shape == (3, 6, 5)
    stored[0, 0, 3] = 254
    Image.fromarray(stored).save(tmp_path / "b.png")
    with pytest.raises(BadImage, match=r"b\.png: the alpha channel is not opaque everywhere"):
        read_images(tmp_path / "b.png")


def test_a_transparent_colour_counts_as_alpha(tmp_path):
    Image.fromarray(np.array([[0, 9]], dtype=np.uint8)).save(tmp_path / "a.png", transparency=9, pnginfo=PngInfo())
    with pytest.raises(BadImage, match="alpha"):
        read_images(tmp_path / "a.png")


def test_cmyk_is_refused(tmp_path):
    Image.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(BadImage, match="colour mode CMYK is neither grey nor RGB"):
        read_images(tmp_path / "a.jpg")


def png16(
    path: Path, stored: np.ndarray, *, filters: list[int], colour: int, interlace: int = 0, extra: bytes = b""
) -> None:
    """Write a 16-bit PNG whose rows use these filters, byte by byte as the standard words them."""
    height, width, samples = stored.shape
    step, plain = 2 * samples, stored.astype(">u2").tobytes()
    row_bytes, packed = step * width, b""
    for y in range(height):
        row = bytearray([filters[y % len(filters)]])
        for at in range(row_bytes):
            here = y * row_bytes + at
            left = plain[here - step] if at >= step else 0
            up = plain[here - row_bytes] if y else 0
            corner = plain[here - row_bytes - step] if y and at >= step else 0
            near = min((left, up, corner), key=lambda one: abs(left + up - corner - one))
            row.append((plain[here] - [0, left, up, (left + up) // 2, near][row[0]]) % 256)
        packed += bytes(row)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, interlace))
    body = extra and chunk(b"tRNS", extra)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [4, 3, 2, 1, 0, 4]])
def test_sixteen_bit_colour_png_keeps_its_depth(tmp_path, rng, filters):
    stored = rng.integers(0, 65536, (7, 5, 3), dtype=np.uint16)
    png16(tmp_path / "a.png", stored, filters=filters, colour=2)
    images, values = only(tmp_path / "a.png")
    assert images.record.channels == ("red", "green", "blue")
    np.testing.assert_allclose(values, stored.transpose(2, 0, 1) / 65535, rtol=1e-6)


def test_sixteen_bit_png_with_alpha_is_read_where_it_is_opaque(tmp_path, rng):
    stored = rng.integers(0, 65535, (4, 5, 4), dtype=np.uint16)
    stored[..., 3] = 65535
    png16(tmp_path / "a.png", stored, filters=[4], colour=6)
    np.testing.assert_allclose(only(tmp_path / "a.png")[1], stored[..., :3].transpose(2, 0, 1) / 65535, rtol=1e-6)
    png16(tmp_path / "g.png", stored[..., 2:], filters=[1], colour=4)
    np.testing.assert_allclose(only(tmp_path / "g.png")[1][0], stored[..., 2] / 65535, rtol=1e-6)
    stored[1, 1, 3] = 7
    png16(tmp_path / "b.png", stored, filters=[0], colour=6)
    with pytest.raises(BadImage, match="alpha"):
        read_images(tmp_path / "b.png")
    png16(tmp_path / "c.png", stored[..., :3], filters=[0], colour=2, extra=stored[2, 2, :3].astype(">u2").tobytes())
    with pytest.raises(BadImage, match="alpha"):
        read_images(tmp_path / "c.png")


def test_damaged_and_interlaced_sixteen_bit_png_are_refused(tmp_path, rng):
    stored = rng.integers(0, 65536, (7, 5, 3), dtype=np.uint16)
    png16(tmp_path / "a.png", stored, filters=[2], colour=2, interlace=1)
    with pytest.raises(BadImage, match="interlaced"):
        read_images(tmp_path / "a.png")
    png16(tmp_path / "a.png", stored, filters=[2], colour=2)
    whole = bytearray((tmp_path / "a.png").read_bytes())
    whole[60] ^= 1
    (tmp_path / "a.png").write_bytes(whole)
    with pytest.raises(BadImage, match="corrupt"):
        read_images(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_picture_that_exif_turns_is_refused_by_name(tmp_path, kind):
    exif = Image.Exif()
    exif[274] = 1
    Image.new("L", (6, 4)).save(tmp_path / f"a.{kind}", exif=exif)
    assert read_images(tmp_path / f"a.{kind}").shape == (1, 4, 6)
    exif[274] = 6
    Image.new("L", (6, 4)).save(tmp_path / f"b.{kind}", exif=exif)
    with pytest.raises(BadImage, match="EXIF orientation is 6"):
        read_images(tmp_path / f"b.{kind}")


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "f2", "f4", "f8"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_keeps_floats_and_scales_integers_by_their_range(tmp_path, rng, dtype, byteorder):
    kind = np.dtype(dtype)
    if kind.kind == "f":
        stored = rng.normal(0, 30, (6, 5)).astype(kind)
        expected = stored.astype(np.float32)
    else:
        limits = np.iinfo(kind)
        stored = rng.integers(limits.min, limits.max, (6, 5), dtype=kind, endpoint=True)
        stored[0, 0], stored[0, 1] = limits.min, limits.max
        expected = np.maximum(stored.astype(np.float64) / limits.max, -1)
    tifffile.imwrite(tmp_path / "a.tif", stored, byteorder=byteorder)
    images, values = only(tmp_path / "a.tif")
    np.testing.assert_allclose(values[0], expected, rtol=1e-5, atol=1e-7)
    low, high = images.record.display_range
    assert low <= values.min()
    assert values.max() <= high
    if kind.kind != "f":
        assert (low, high) == ((-1.0, 1.0) if kind.kind == "i" else (0.0, 1.0))


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [("ZYX", (3, 6, 5), "CZYX"), ("CYX", (2, 6, 5), "CYX"), ("ZCYX", (3, 2, 6, 5), "CZYX"), ("TZCYX", (2, 3, 4, 6, 5), "CTZYX")],
)  # fmt: skip
@pytest.mark.parametrize("flavour", ["imagej", "ome"])
def test_stack_axes_are_those_that_imagej_and_ome_state(tmp_path, rng, axes, shape, expected, flavour):
    stored = rng.integers(0, 65536, shape, dtype=np.uint16)
    path = tmp_path / ("a.ome.tif" if flavour == "ome" else "a.tif")
    tifffile.imwrite(path, stored, metadata={"axes": axes}, **{flavour: True})
    images, values = only(path)
    assert images.record.axes == expected
    order = [axes.index(letter) for letter in expected if letter in axes]
    wanted = stored.transpose(order).reshape(values.shape)
    np.testing.assert_allclose(values, wanted / 65535, rtol=1e-6)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_tiff_has_channels_first(tmp_path, rng, planar):
    stored = rng.integers(0, 256, (6, 5, 3) if planar == "contig" else (3, 6, 5), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    images, values = only(tmp_path / "a.tif")
    wanted = stored.transpose(2, 0, 1) if planar == "contig" else stored
    assert images.record.channels == ("red", "green", "blue")
    np.testing.assert_allclose(values, wanted / 255, rtol=1e-6)


def test_opaque_alpha_of_a_tiff_is_dropped(tmp_path, rng):
    stored = rng.integers(0, 256, (6, 5, 4), dtype=np.uint8)
    stored[..., 3] = 255
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["unassalpha"])
    _, values = only(tmp_path / "a.tif")
    np.testing.assert_allclose(values, stored[..., :3].transpose(2, 0, 1) / 255, rtol=1e-6)
    stored[2, 2, 3] = 3
    tifffile.imwrite(tmp_path / "b.tif", stored, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.raises(BadImage, match="alpha"):
        read_images(tmp_path / "b.tif")


def test_white_as_zero_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 5), np.uint8), photometric="miniswhite")
    with pytest.raises(BadImage, match="stores white as 0"):
        read_images(tmp_path / "a.tif")


def test_pixel_size_of_imagej_is_in_micrometres(tmp_path):
    stack = np.zeros((3, 6, 5), np.uint8)
    metadata = {"axes": "ZYX", "spacing": 300.0, "unit": "nm"}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(1 / 100, 1 / 200), metadata=metadata)
    spacing = read_images(tmp_path / "a.tif").record.spacing
    assert spacing == pytest.approx((0.3, 0.2, 0.1))


def test_pixel_size_and_channel_names_of_ome_are_taken(tmp_path):
    metadata = {
        "axes": "TCYX",
        "PhysicalSizeX": 250.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.5,
        "TimeIncrement": 2.0,
        "TimeIncrementUnit": "min",
        "Channel": {"Name": ["DAPI", "actin"]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 2, 6, 5), np.uint8), metadata=metadata)
    record = read_images(tmp_path / "a.ome.tif").record
    assert record.spacing == pytest.approx((120.0, 0.5, 0.25))
    assert record.channels == ("DAPI", "actin")


def test_centimetre_tags_are_a_pixel_size_and_print_resolutions_are_none(tmp_path):
    plain = np.zeros((6, 5), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", plain, resolution=(20000, 10000), resolutionunit="CENTIMETER")
    assert read_images(tmp_path / "a.tif").record.spacing == pytest.approx((1.0, 0.5))
    tifffile.imwrite(tmp_path / "b.tif", plain, resolution=(28.35, 28.35), resolutionunit="CENTIMETER")
    assert read_images(tmp_path / "b.tif").record.spacing is None
    tifffile.imwrite(tmp_path / "c.tif", plain, resolution=(300, 300), resolutionunit="INCH")
    assert read_images(tmp_path / "c.tif").record.spacing is None


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [((6, 5), None, "CYX"), ((4, 30), "CX", "CX"), ((30,), "X", "CX"), ((6, 5, 4), "YXC", "CYX"), ((3, 2, 6, 5), "ZCYX", "CZYX"),
     ((5, 6), "XY", "CYX")],
)  # fmt: skip
def test_npy_has_the_axes_that_are_given(tmp_path, rng, shape, axes, expected):
    stored = rng.normal(size=shape).astype(np.float32)
    np.save(tmp_path / "a.npy", stored)
    images, values = only(tmp_path / "a.npy", axes=axes)
    assert images.record.axes == expected
    letters = axes or "YX"
    np.testing.assert_array_equal(
        values, stored.transpose([letters.index(one) for one in expected if one in letters]).reshape(values.shape)
    )


@pytest.mark.parametrize("shape", [(30,), (6, 5, 3), (3, 6, 5), (2, 3, 6, 5)])
def test_npy_of_unnamed_axes_is_refused_with_its_shape(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(BadImage, match=r"a\.npy: the file does not name the axes") as caught:
        read_images(tmp_path / "a.npy")
    assert str(shape) in str(caught.value)
    assert "axes=" in str(caught.value)


def test_stack_without_stated_axes_is_refused_until_the_user_names_them(tmp_path, rng):
    stored = rng.integers(0, 256, (7, 6, 5), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for plane in stored:
            file.write(plane, metadata=None, contiguous=False)
    with pytest.raises(BadImage, match=r"a\.tif.*\(7, 6, 5\).*axes="):
        read_images(tmp_path / "a.tif")
    images, values = only(tmp_path / "a.tif", axes="ZYX")
    assert images.record.axes == "CZYX"
    np.testing.assert_allclose(values[0], stored / 255, rtol=1e-6)


def test_axes_of_another_number_of_dimensions_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((6, 5)))
    with pytest.raises(BadImage, match=r"names 3 dimensions, but the file holds 2 of shape \(6, 5\)"):
        read_images(tmp_path / "a.npy", axes="CYX")


@pytest.mark.parametrize(("axes", "reason"), [("QYX", "no axis"), ("YYX", "twice"), ("CZX", "must be one of")])
def test_axes_that_are_none_are_refused(tmp_path, axes, reason):
    np.save(tmp_path / "a.npy", np.zeros((3, 6, 5)))
    with pytest.raises(BadImage, match=reason):
        read_images(tmp_path / "a.npy", axes=axes)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_float32_cannot_hold_are_refused(tmp_path, value):
    np.save(tmp_path / "a.npy", np.array([[0.0, value]]))
    with pytest.raises(BadImage, match="1 of 2 values are not finite"):
        read_images(tmp_path / "a.npy")


@pytest.mark.parametrize("array", [np.zeros((6, 5), np.int64), np.zeros((6, 5), complex), np.zeros((6, 5), "S3")])
def test_types_without_an_image_range_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(BadImage, match=str(array.dtype)):
        read_images(tmp_path / "a.npy")


def test_pickled_arrays_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}, None]], dtype=object), allow_pickle=True)
    with pytest.raises(BadImage, match=r"a\.npy"):
        read_images(tmp_path / "a.npy")


def test_several_images_in_one_file_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((6, 5), np.uint8), metadata={"axes": "YX"})
        file.write(np.zeros((8, 9), np.uint16), metadata={"axes": "YX"})
    with pytest.raises(BadImage, match="holds 2 images"):
        read_images(tmp_path / "a.tif")


def test_given_spacing_and_channels_override_what_the_file_states(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 6, 5)))
    images = read_images(tmp_path / "a.npy", axes="CZYX", spacing=(2, 1, 0.5), channels=("DAPI", "actin"))
    assert images.record.spacing == (2.0, 1.0, 0.5)
    assert images.record.channels == ("DAPI", "actin")
    with pytest.raises(BadImage, match="3 channel names"):
        read_images(tmp_path / "a.npy", axes="CZYX", channels=("a", "b", "c"))
    with pytest.raises(BadImage, match="spacing"):
        read_images(tmp_path / "a.npy", axes="CZYX", spacing=(1, 1))
