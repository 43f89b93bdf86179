"""The scikit-learn estimator: density estimation, latents and samples of tables and images."""

from bype.estimator.bypevae import ByPEVAE as ByPEVAE
from bype.estimator.bypevae import Pseudocoreset as Pseudocoreset
