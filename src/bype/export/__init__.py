"""Export to other formats: a pseudocoreset as plain files."""

from bype.export.coreset import export_coreset

__all__ = [
    "export_coreset",
]
