import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pellucid.errors import BadStudy
from pellucid.images import read_images
from pellucid.show.exports.content import STAMP, Content
from pellucid.show.exports.dicom import write_dicom
from pellucid.show.exports.nifti import write_nifti

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

SECRET = "Doe^Jane"


def test_nifti_without_a_source_says_the_pixel_size(imagine, tmp_path):
    content, image, values, mask = imagine((4, 6, 8), "ZYX", spacing=(2000.0, 1000.0, 500.0))
    write_nifti(content, tmp_path)
    read = nibabel.load(tmp_path / "one.png.saliency.nii.gz")
    assert read.get_data_dtype() == np.float32
    assert np.array_equal(read.get_fdata().transpose(), values)
    assert np.array_equal(np.diag(read.affine), [0.5, 1.0, 2.0, 1.0])
    assert np.array_equal(nibabel.load(tmp_path / "one.png.nii.gz").get_fdata().transpose(), image[0])
    assert np.array_equal(nibabel.load(tmp_path / "one.png.mask-cell.nii.gz").get_fdata().transpose(), mask)


@pytest.mark.parametrize("shape", [(4, 6, 8), (6, 8)])
def test_nifti_keeps_the_place_in_the_patient(imagine, tmp_path, shape):
    content = imagine(shape, "ZYX"[-len(shape) :])[0]
    x, y, z, origin = (-2.0, 0.1, 0.0), (0.0, 2.0, 0.2), (0.0, -0.3, 3.0), (90.0, -70.0, 5.0)
    columns = [*(z, y, x)[-len(shape) :], origin]
    affine = (*zip(*columns, strict=True), (*(0.0,) * len(shape), 1.0))
    record = dataclasses.replace(content.record, affine=affine)
    object.__setattr__(content.study.images, "describe", lambda image: record)
    write_nifti(content, tmp_path)
    found = nibabel.load(tmp_path / "one.png.saliency.nii.gz").affine
    np.testing.assert_allclose(found[:3, :2].T, [x, y], atol=1e-6)
    np.testing.assert_allclose(found[:3, 3], origin, atol=1e-6)
    if len(shape) == 3:
        np.testing.assert_allclose(found[:3, 2], z, atol=1e-6)
    assert abs(np.linalg.det(found)) > 1


@pytest.mark.parametrize("write", [write_nifti, write_dicom])
def test_lines_are_refused_in_one_sentence(imagine, tmp_path, write):
    content = imagine((9,), "X")[0]
    with pytest.raises(BadStudy, match="these are X; export to ome-zarr"):
        write(content, tmp_path)


def in_order(frames, positions):
    return np.stack([frame for _, frame in sorted(zip(positions, frames, strict=True), key=lambda pair: pair[0])])


def read_map(path):
    told = pydicom.dcmread(path)
    positions = [
        frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in told.PerFrameFunctionalGroupsSequence
    ]
    frames = told.pixel_array if told.pixel_array.ndim == 3 else told.pixel_array[None]
    return told, in_order(frames, positions)


@pytest.mark.parametrize(("shape", "axes"), [((16, 20), "YX"), ((3, 16, 20), "ZYX")])
def test_dicom_objects_are_read_back_intact(imagine, tmp_path, shape, axes):
    content, _, values, mask = imagine(shape, axes, spacing=(2000.0, 500.0, 500.0)[-len(shape) :])
    write_dicom(content, tmp_path)
    told, frames = read_map(tmp_path / "one.png.map.dcm")
    assert told.SOPClassUID.name == "Parametric Map Storage"
    np.testing.assert_array_equal(frames, values.reshape(-1, 16, 20))
    shared = told.SharedFunctionalGroupsSequence[0]
    assert [float(step) for step in shared.PixelMeasuresSequence[0].PixelSpacing] == [0.5, 0.5]
    segmented = highdicom.seg.segread(tmp_path / "one.png.mask.dcm")
    assert [segmented.get_segment_description(1).SegmentLabel] == ["cell"]
    assert segmented.pixel_array.sum() == (mask > 0).sum()
    picture = pydicom.dcmread(tmp_path / "one.png.picture-1.dcm")
    assert picture.SOPClassUID.name == "Secondary Capture Image Storage"
    assert (picture.pixel_array[-44:] > 200).sum() > 300  # the stamp is burned in
    assert {object_.SeriesDescription for object_ in (told, segmented, picture)} == {STAMP}
    uids = [object_.SOPInstanceUID for object_ in (told, segmented, picture)]
    assert len(set(uids)) == 3


def patient(path, plane):
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{plane}"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    for name in ("PatientName", "ReferringPhysicianName", "OperatorsName", "OtherPatientNames"):
        setattr(header, name, SECRET)
    header.PatientID, header.AccessionNumber, header.StudyID = "SECRET-1", "SECRET-2", "SECRET-3"
    header.PatientBirthDate, header.StudyDate, header.PatientSex = "19700101", "20200202", "F"
    header.InstitutionName, header.StudyDescription, header.PatientComments = "SECRET-4", "SECRET-5", "SECRET-6"
    header.StudyTime, header.PatientAge, header.Modality = "010203", "050Y", "MR"
    header.Rows, header.Columns, header.BitsAllocated, header.BitsStored, header.HighBit = 32, 40, 16, 16, 15
    header.SamplesPerPixel, header.PixelRepresentation, header.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    header.PixelSpacing, header.SliceThickness = [0.25, 0.25], 4.0
    header.ImagePositionPatient, header.ImageOrientationPatient = [-10, -20, 4.0 * plane], [1, 0, 0, 0, 1, 0]
    header.InstanceNumber = plane + 1
    header.PixelData = np.zeros((32, 40), np.uint16).tobytes()
    header.save_as(path, enforce_file_format=True)


def test_nothing_that_names_a_patient_reaches_an_object_and_overlays_still_fit(imagine, tmp_path):
    series, out = tmp_path / "series", tmp_path / "out"
    series.mkdir()
    out.mkdir()
    for plane in (2, 0, 1):
        patient(series / f"{7 - plane}.dcm", plane)
    content, _, values, _ = imagine((3, 16, 20), "ZYX")
    object.__setattr__(content, "source", lambda image: series)
    write_dicom(content, out)
    for path in out.iterdir():
        raw = path.read_bytes()
        for secret in (b"Doe", b"Jane", b"SECRET", b"19700101", b"20200202", b"050Y"):
            assert secret not in raw, (path.name, secret)
        told = pydicom.dcmread(path)
        assert str(told.PatientName) == ""
        assert told.StudyInstanceUID == "1.2.3.1"
        assert not str(told.SOPInstanceUID).startswith("1.2.3.4")
    told, frames = read_map(out / "one.png.map.dcm")
    assert told.FrameOfReferenceUID == "1.2.3.3"
    assert (told.Rows, told.Columns) == (32, 40)
    assert frames.shape == (3, 32, 40)
    assert np.corrcoef(frames[2][8:-8:2, 8:-8:2].ravel(), values[2][4:-4, 4:-4].ravel())[0, 1] > 0.8
    referred = {
        item.ReferencedSOPInstanceUID
        for series_ in told.ReferencedSeriesSequence
        for item in series_.ReferencedInstanceSequence
    }
    assert referred == {"1.2.3.4.0", "1.2.3.4.1", "1.2.3.4.2"}


def test_a_series_of_another_depth_is_refused(imagine, tmp_path):
    patient(tmp_path / "a.dcm", 0)
    content = imagine((3, 16, 20), "ZYX")[0]
    object.__setattr__(content, "source", lambda image: tmp_path / "a.dcm")
    with pytest.raises(BadStudy, match="1 DICOM files for an image of 3 planes"):
        write_dicom(content, tmp_path)


FORMATS = Path(__file__).parents[4] / "shared" / "data" / "formats"


@pytest.mark.data
@pytest.mark.skipif(not FORMATS.is_dir(), reason="needs the real images")
@pytest.mark.parametrize("name", ["nifti/anatomical.nii"])
def test_a_real_scan_keeps_its_affine_and_its_voxels(imagine, tmp_path, name):
    images = read_images(FORMATS / name)
    content = imagine(images.shape[1:], "ZYX")[0]
    study = SimpleNamespace(**vars(content.study) | {"images": images, "maps": lambda method, ids: images.tensor(ids)})
    write_nifti(Content(study, images.ids, ("saliency",)), tmp_path)
    source, made = nibabel.load(FORMATS / name), nibabel.load(tmp_path / f"{images.ids[0]}.saliency.nii.gz")
    corners = [np.array([*corner, 1.0]) for corner in ((0, 0, 0), np.array(made.shape) - 1)]
    own = np.linalg.inv(source.affine)
    values, voxels = made.get_fdata(), source.get_fdata()
    for corner in corners:
        place = np.rint(own @ made.affine @ corner).astype(int)[:3]
        assert (place >= 0).all()
    told = [np.rint(own @ made.affine @ [*at, 1.0]).astype(int)[:3] for at in np.ndindex(made.shape)]
    theirs = np.array([voxels[tuple(at)] for at in told])
    assert np.corrcoef(values.ravel(), theirs)[0, 1] > 0.9999
