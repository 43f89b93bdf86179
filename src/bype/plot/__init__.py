"""Plots on matplotlib's axes, of runs and models or of arrays.

Each function returns the axes. With `ax` it draws there, under the caller's own style, and touches nothing else of
matplotlib. Without, it makes a new figure with `matplotlib.pyplot`, under bype's style, which no rc file changes.
"""

from bype.plot.charts import curves as curves
from bype.plot.charts import knn as knn
from bype.plot.charts import latent_map as latent_map
from bype.plot.charts import scores as scores
from bype.plot.pictures import interpolation as interpolation
from bype.plot.pictures import pseudocoreset as pseudocoreset
from bype.plot.pictures import reconstructions as reconstructions
from bype.plot.pictures import samples as samples
