"""Export to other formats: a pseudocoreset as plain files, samples as a .npz file."""

from bype.export.coreset import export_coreset
from bype.export.samples import save_samples

__all__ = [
    "export_coreset",
    "save_samples",
]
