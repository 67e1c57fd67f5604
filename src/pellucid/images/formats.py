"""The built-in readers, in the order in which they are asked."""

from pellucid.images.dicom import DICOM
from pellucid.images.medmnist import MEDMNIST
from pellucid.images.nifti import NIFTI
from pellucid.images.numpy_files import NPY
from pellucid.images.ome_zarr import OME_ZARR
from pellucid.images.raster import JPEG, PNG
from pellucid.images.slides import SLIDE
from pellucid.images.tiff import TIFF

__all__ = ["FORMATS"]

FORMATS = (PNG, JPEG, TIFF, OME_ZARR, SLIDE, DICOM, NIFTI, NPY, MEDMNIST)
