"""The strategies by name."""

from bype.pseudocoreset.elbo import Elbo
from bype.pseudocoreset.fixed import Fixed
from bype.pseudocoreset.paper import Algorithm2
from bype.pseudocoreset.published import ReferenceCode
from bype.pseudocoreset.strategy import Strategy

#: The command line's names.
STRATEGIES: dict[str, type[Strategy]] = {"paper": Algorithm2, "none": Fixed, "published": ReferenceCode, "elbo": Elbo}
