"""`bype bench`: the time of training and scoring beside the time of their matrix products alone."""
