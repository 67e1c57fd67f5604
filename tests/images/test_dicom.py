"""DICOM: values in the modality's unit, slices sorted by position, segmentations as masks, and nobody's name anywhere."""

import logging
import pickle

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from pellucid.errors import BadImage
from pellucid.images import read_images
from pellucid.images.dicom_identity import PERSONAL

NAME, NUMBER = "Doe^Jane", "PAT-4711"
FLAT = (1.0, 0, 0, 0, 1, 0)


def dataset(pixels, **stated):
    """Return a data set of someone, with every mandatory word and these."""
    kind = stated.pop("SOPClassUID", CTImageStorage)
    frames = stated.get("NumberOfFrames", 1)
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = kind
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = NAME, NUMBER, "19700101", "F"
    made.StudyInstanceUID, made.AccessionNumber = generate_uid(entropy_srcs=["study"]), "ACC-99"
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = generate_uid(entropy_srcs=["series"]), 1, 1
    made.FrameOfReferenceUID, made.Modality, made.StudyID, made.StudyDate, made.StudyTime = (
        generate_uid(entropy_srcs=["frame"]),
        "CT",
        "1",
        "",
        "",
    )
    made.ReferringPhysicianName = "House^Gregory"
    colour = pixels.ndim - (frames > 1) == 3
    made.Rows, made.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for keyword, value in stated.items():
        setattr(made, keyword, value)
    return made


def save(path, pixels, **stated):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = dataset(pixels, **stated)
    made.save_as(path, enforce_file_format=True)
    return made


def volume(folder, rng, *, count=4, gap=2.5, along=FLAT, name=lambda place: f"{place}.dcm", **stated):
    """Write slices in an order of names that is not that of their positions; return values by position."""
    stored = rng.integers(0, 4000, (count, 6, 5)).astype(np.int16)
    normal = np.cross(along[:3], along[3:])
    made = []
    for turn, place in enumerate(rng.permutation(count)):
        position = [float(one) for one in np.array([10.0, 20.0, 30.0]) + gap * place * normal]
        made.append(save(
            folder / name(turn), stored[place], ImagePositionPatient=position, ImageOrientationPatient=list(along), PixelSpacing=[0.5, 0.75],
            SliceThickness=9.0, RescaleSlope=2, RescaleIntercept=-1024, RescaleType="HU", InstanceNumber=turn + 1, **stated,
        ))  # fmt: skip
    return stored * 2.0 - 1024, made


def test_grey_values_are_in_the_modality_s_unit_and_the_window_is_shown(tmp_path, rng):
    stored = rng.integers(0, 4000, (6, 5)).astype(np.int16)
    save(
        tmp_path / "a.dcm",
        stored,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        PixelSpacing=[0.5, 0.75],
        WindowCenter=40,
        WindowWidth=400,
    )
    images = read_images(tmp_path / "a.dcm")
    np.testing.assert_array_equal(images.tensor()[0, 0].numpy(), stored - 1024.0)
    assert images.record.spacing == (500.0, 750.0)
    assert images.record.display_range == (-160.0, 240.0)


@pytest.mark.parametrize(
    ("unit", "turned"), [({}, True), ({"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"}, False)]
)
def test_white_as_lowest_is_turned_round_unless_the_values_are_a_quantity(tmp_path, rng, unit, turned):
    stored = rng.integers(0, 4096, (6, 5)).astype(np.uint16)
    save(tmp_path / "a.dcm", stored, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11, **unit)
    wanted = 4095.0 - stored if turned else stored - 1024.0
    np.testing.assert_array_equal(read_images(tmp_path / "a.dcm").tensor()[0, 0].numpy(), wanted)


def test_colours_and_palettes_are_red_green_and_blue(tmp_path, rng):
    stored = rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    save(tmp_path / "a.dcm", stored, SOPClassUID=SecondaryCaptureImageStorage)
    images = read_images(tmp_path / "a.dcm")
    assert images.record.channels == ("red", "green", "blue")
    np.testing.assert_allclose(images.tensor()[0].numpy(), stored.transpose(2, 0, 1) / 255, rtol=1e-6)
    numbers = rng.integers(0, 4, (6, 5)).astype(np.uint8)
    table = rng.integers(0, 65536, (3, 4)).astype(np.uint16)
    words = {
        f"{colour}PaletteColorLookupTable": table[place].tobytes()
        for place, colour in enumerate(("Red", "Green", "Blue"))
    }
    save(
        tmp_path / "p.dcm", numbers, SOPClassUID=SecondaryCaptureImageStorage, PhotometricInterpretation="PALETTE COLOR",
        **{f"{key}Descriptor": [4, 0, 16] for key in words}, **{f"{key}Data": value for key, value in words.items()},
    )  # fmt: skip
    np.testing.assert_allclose(
        read_images(tmp_path / "p.dcm").tensor()[0].numpy(), table[:, numbers] / 65535, rtol=1e-6
    )


@pytest.mark.parametrize("along", [FLAT, (0, 1, 0, 0, 0, -1), (0.8, 0.6, 0, -0.6, 0.8, 0)])
def test_slices_are_sorted_by_position_and_their_distance_is_that_of_the_positions(tmp_path, rng, along):
    values, made = volume(tmp_path / "scan", rng, along=along)
    images = read_images(tmp_path / "scan")
    assert (len(images), images.record.axes, images.shape) == (1, "CZYX", (1, 4, 6, 5))
    np.testing.assert_array_equal(images.tensor()[0, 0].numpy(), values)
    assert images.record.spacing == pytest.approx((2500.0, 500.0, 750.0))
    first = min(made, key=lambda one: np.dot(one.ImagePositionPatient, np.cross(along[:3], along[3:])))
    place = np.array(first.ImagePositionPatient, float) + 3 * 2.5 * np.cross(along[:3], along[3:])
    place += 2 * 0.5 * np.array(along[3:]) + 4 * 0.75 * np.array(along[:3])
    np.testing.assert_allclose((np.array(images.record.affine) @ [3, 2, 4, 1])[:3], place * [-1, -1, 1], atol=1e-6)


def test_axial_slices_run_to_the_head_the_back_and_the_left(tmp_path, rng):
    volume(tmp_path, rng)
    assert read_images(tmp_path).record.orientation == "SPL"


def test_patients_of_class_folders_are_volumes_with_labels_and_a_manifest_may_name_folders(tmp_path, rng):
    values = {}
    for patient in ("sick/p1", "sick/p2", "well/p3"):
        values[patient], _ = volume(tmp_path / patient, rng, SeriesInstanceUID=generate_uid(), name="{}".format)
    images = read_images(tmp_path)
    assert (images.ids, images.classes, images.labels) == (tuple(values), ("sick", "well"), (0, 0, 1))
    np.testing.assert_array_equal(images.tensor()[:, 0].numpy(), np.stack(list(values.values())))
    (tmp_path / "labels.csv").write_text("image,label\nsick/p2,a\nwell/p3/,b\n")
    listed = read_images(tmp_path, labels="labels.csv")
    np.testing.assert_array_equal(listed.tensor()[:, 0].numpy(), np.stack([values["sick/p2"], values["well/p3"]]))
    assert (pickle.loads(pickle.dumps(images)).tensor() == images.tensor()).all()


def test_single_images_of_a_folder_stay_images(tmp_path, rng):
    for place in range(3):
        save(tmp_path / f"{place}.dcm", rng.integers(0, 99, (6, 5)).astype(np.uint16), SeriesInstanceUID=generate_uid())
    assert read_images(tmp_path).ids == ("0.dcm", "1.dcm", "2.dcm")


def test_one_of_several_series_of_a_folder_is_chosen(tmp_path, rng):
    first, _ = volume(tmp_path, rng, SeriesNumber=2, SeriesInstanceUID=generate_uid(), name="b{}".format)
    second, _ = volume(tmp_path, rng, SeriesNumber=7, SeriesInstanceUID=generate_uid(), name="a{}".format)
    with pytest.raises(BadImage, match="series 2, a volume of 4 files of 6 × 5; 1: series 7"):
        read_images(tmp_path)
    np.testing.assert_array_equal(read_images(tmp_path, series=0).tensor()[0, 0].numpy(), first)
    np.testing.assert_array_equal(read_images(tmp_path, series="series 7").tensor()[0, 0].numpy(), second)


def shift(made, path, by):
    made.ImagePositionPatient = [float(one + more) for one, more in zip(made.ImagePositionPatient, by, strict=True)]
    made.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        ((0, 0, 1.0), "go from 1.5 to 3.5 mm, so that slices are missing"),
        ((0, 0, -2.5), "share a position"),
        ((4.0, 0, 0), "shifted sideways"),
    ],
)
def test_slices_that_are_no_even_stack_are_refused(tmp_path, rng, by, reason):
    _, made = volume(tmp_path, rng)
    middle = next(place for place, one in enumerate(made) if one.ImagePositionPatient[2] == (37.5 if by[0] else 32.5))
    shift(made[middle], tmp_path / f"{middle}.dcm", by)
    with pytest.raises(BadImage, match=reason):
        read_images(tmp_path)


def test_slices_turned_against_each_other_are_images_of_their_own(tmp_path, rng):
    _, made = volume(tmp_path, rng)
    made[1].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    made[1].save_as(tmp_path / "1.dcm", enforce_file_format=True)
    assert read_images(tmp_path).shape == (1, 6, 5)
    assert len(read_images(tmp_path)) == 4


def groups(positions, **more):
    found = []
    for position in positions:
        place, group = Dataset(), Dataset()
        place.ImagePositionPatient = [float(one) for one in position]
        group.PlanePositionSequence = Sequence([place])
        for keyword, value in more.items():
            inner = Dataset()
            for word, number in value.items():
                setattr(inner, word, number)
            setattr(group, keyword, Sequence([inner]))
        found.append(group)
    return Sequence(found)


def test_frames_of_an_enhanced_file_are_sorted_by_position_with_their_own_slope(tmp_path, rng):
    stored = rng.integers(0, 999, (3, 6, 5)).astype(np.uint16)
    measures, direction, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness, direction.ImageOrientationPatient = [0.5, 0.5], 7.0, list(FLAT)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([direction])
    save(
        tmp_path / "a.dcm", stored, SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=3, SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=groups(
            [(0, 0, 4), (0, 0, 0), (0, 0, 2)],
            PixelValueTransformationSequence={"RescaleSlope": 2, "RescaleIntercept": -10, "RescaleType": "HU"},
        ),
    )  # fmt: skip
    images = read_images(tmp_path / "a.dcm")
    np.testing.assert_array_equal(images.tensor()[0, 0].numpy(), stored[[1, 2, 0]] * 2.0 - 10)
    assert images.record.spacing == pytest.approx((2000.0, 500.0, 500.0))


def test_frames_in_time_state_their_gap_and_frames_of_nothing_are_refused(tmp_path, rng):
    stored = rng.integers(0, 256, (3, 6, 5, 3)).astype(np.uint8)
    save(tmp_path / "a.dcm", stored, SOPClassUID=SecondaryCaptureImageStorage, NumberOfFrames=3, FrameTime=40.0)
    images = read_images(tmp_path / "a.dcm")
    assert images.record.axes == "CTYX"
    assert images.record.spacing == pytest.approx((0.04, np.nan, np.nan), nan_ok=True)
    save(tmp_path / "b.dcm", stored, SOPClassUID=SecondaryCaptureImageStorage, NumberOfFrames=3)
    with pytest.raises(BadImage, match="does not say what Q is; give axes="):
        read_images(tmp_path / "b.dcm")
    assert read_images(tmp_path / "b.dcm", axes="ZYXC").shape == (3, 3, 6, 5)


def segmentation(made, numbers, path):
    import highdicom
    from pydicom.sr.codedict import codes

    words = [
        highdicom.seg.SegmentDescription(
            number,
            f"part {number}",
            codes.SCT.Tissue,
            codes.SCT.Tissue,
            highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number in (1, 2)
    ]
    found = highdicom.seg.Segmentation(
        made, numbers.astype(np.uint8), highdicom.seg.SegmentationTypeValues.BINARY, words, generate_uid(), 9, generate_uid(), 1, "maker", "model",
        "1", "0",
    )  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    found.save_as(path)


@pytest.mark.parametrize("beside", [True, False])
def test_segments_are_the_numbers_of_a_mask_on_the_voxels_of_their_scan(tmp_path, rng, beside):
    _, made = volume(tmp_path / "scan", rng)
    ordered = sorted(made, key=lambda one: one.ImagePositionPatient[2])
    numbers = np.zeros((4, 6, 5), int)
    numbers[1, 1:4, 2], numbers[2, 0, :3] = 1, 2
    segmentation(ordered, numbers, tmp_path / ("scan" if beside else "masks") / "scan.dcm")
    images = read_images(tmp_path / "scan", masks=None if beside else tmp_path / "masks")
    assert (len(images), list(images.masks)) == (1, ["segmentation" if beside else "masks"])
    (mask,) = images.mask(next(iter(images.masks)))
    np.testing.assert_array_equal(mask.numpy(), numbers)


def test_a_segmentation_is_no_image(tmp_path, rng):
    _, made = volume(tmp_path / "scan", rng)
    segmentation(made, np.ones((4, 6, 5), int), tmp_path / "masks" / "a.dcm")
    for path in (tmp_path / "masks", tmp_path / "masks" / "a.dcm"):
        with pytest.raises(BadImage, match="segmentations or reports but no image"):
            read_images(path)
    (tmp_path / "labels.csv").write_text("image,label\nmasks/a.dcm,x\n")
    with pytest.raises(BadImage, match="it is a segmentation, not an image"):
        read_images(tmp_path, labels="labels.csv")


def told_by(images):
    """Return every text that a set of images tells."""
    records = [repr(images.record_of(image)) for image in images.ids]
    return " ".join([repr(images), repr(images.ids), repr(images.record), repr(images.metadata.to_pydict()), *records])


def personal(made):
    words = [str(made.get(keyword, "")) for keyword in PERSONAL if str(made.get(keyword, ""))]
    return [*words, "doe", "jane", "house", "4711", "19700101"]


@pytest.mark.parametrize("case", ["file", "folder", "volume", "damaged"])
def test_nobody_is_named_in_ids_records_errors_warnings_or_logs(tmp_path, rng, case, caplog, recwarn, capfd):
    folder = tmp_path / "DOE_JANE_PAT-4711"
    caplog.set_level(logging.DEBUG)
    if case == "volume":
        _, made = volume(folder, rng, name=lambda place: f"{generate_uid()}.dcm")
    else:
        uid = generate_uid()
        made = [
            save(
                folder / f"{uid}.dcm",
                rng.integers(0, 99, (6, 5)).astype(np.uint16),
                PatientComments="x\\y" * 40,
                SOPInstanceUID=uid,
            )
        ]
        save(
            folder / "Doe_1.dcm",
            rng.integers(0, 99, (6, 5)).astype(np.uint16),
            SeriesInstanceUID=generate_uid(),
            PatientAge="not an age",
        )
    if case == "damaged":
        whole = (folder / "Doe_1.dcm").read_bytes()
        (folder / "Doe_1.dcm").write_bytes(whole[:-30])
        (folder / "Jane_Doe.dcm").write_bytes(whole[:200])
    caplog.clear()
    recwarn.clear()
    images = read_images(next(folder.glob("Doe_1.dcm")) if case == "file" else folder)
    told = told_by(images) if case != "damaged" else repr(images.ids)
    for image in images.ids:
        try:
            images.load(image)
        except BadImage as error:
            told += str(error)
    assert case != "damaged" or "corrupt, incomplete" in told
    out = capfd.readouterr()
    said = " ".join([told, caplog.text, out.out, out.err, *(str(one.message) for one in recwarn)]).lower()
    for word in personal(made[0]):
        assert word.lower() not in said or len(word) < 3, word


def test_derived_names_are_the_same_on_every_run_and_masks_are_still_found(tmp_path, rng):
    uid = generate_uid()
    save(tmp_path / "images" / f"{uid}.dcm", rng.integers(0, 99, (6, 5)).astype(np.uint16), SOPInstanceUID=uid)
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / f"{uid}.npy", np.ones((6, 5), np.uint8))
    images = read_images(tmp_path / "images", masks=tmp_path / "masks")
    assert images.ids == read_images(tmp_path / "images").ids
    assert images.ids[0].startswith("dicom_")
    assert int(images.mask("masks")[0].sum()) == 30


def test_bombs_and_files_without_picture_are_refused(tmp_path, rng):
    made = save(tmp_path / "a.dcm", rng.integers(0, 99, (6, 5)).astype(np.uint16))
    made.Rows = made.Columns = 60000
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(BadImage, match=r"states 3\.6e\+09 values"):
        read_images(tmp_path / "a.dcm")
    made = save(tmp_path / "b.dcm", np.zeros((3000, 3000), np.uint16))
    made.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    made.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert (tmp_path / "b.dcm").stat().st_size < 100_000
    with pytest.raises(BadImage, match="inflates to more than"):
        read_images(tmp_path / "b.dcm", limit=100_000)
    del made.PixelData
    made.save_as(tmp_path / "c.dcm", enforce_file_format=True)
    with pytest.raises(BadImage, match="holds no picture"):
        read_images(tmp_path / "c.dcm")
