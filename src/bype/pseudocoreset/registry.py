"""The strategies by name."""

from bype.pseudocoreset.elbo import Elbo
from bype.pseudocoreset.fixed import Fixed
from bype.pseudocoreset.paper import Paper
from bype.pseudocoreset.published import Published
from bype.pseudocoreset.strategy import Strategy

#: The command line's names.
STRATEGIES: dict[str, type[Strategy]] = {"paper": Paper, "none": Fixed, "published": Published, "elbo": Elbo}
