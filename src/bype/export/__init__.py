"""Export to other formats: a pseudocoreset as plain files, samples as a .npz file, programs for ONNX and torch,
and folders to share."""

from bype.export.coreset import export_coreset
from bype.export.hub import from_pretrained, push_to_hub, save_pretrained
from bype.export.programs import export_model
from bype.export.samples import save_samples

__all__ = [
    "export_coreset",
    "export_model",
    "from_pretrained",
    "push_to_hub",
    "save_pretrained",
    "save_samples",
]
