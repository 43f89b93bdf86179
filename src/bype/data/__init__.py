"""Data sets: finding, reading and splitting them; images are stored compactly and scaled per batch.

Images are (n, c, h, w), uint8 or floats. A uint8 value v of L levels stands for the pixel (v + 1/2)/L; floats are
pixels in [0, 1] already. Nothing is downloaded unless requested, and nothing is unpickled.
"""

from bype.data.catalog import PUBLISHED, PublishedSet, find, is_image_collection, load, read_like, roots
from bype.data.images import Dataset, Images, scale
from bype.data.published import CIFAR10_ARCHIVE, CIFAR10_FOLDER
from bype.data.rows import SPLIT_SEED
from bype.data.splits import from_arrays

__all__ = [
    "CIFAR10_ARCHIVE",
    "CIFAR10_FOLDER",
    "PUBLISHED",
    "SPLIT_SEED",
    "Dataset",
    "Images",
    "PublishedSet",
    "find",
    "from_arrays",
    "is_image_collection",
    "load",
    "read_like",
    "roots",
    "scale",
]
