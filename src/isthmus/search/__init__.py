"""Many fits at once: several settings of an autoencoder, and which of them suits the data best.

Networks of one form are trained by the same products of stacks of matrices, so that many small fits
take little longer than a few. Each takes the steps that it takes alone, within rounding, which in
single precision grows over many of them.
"""

from isthmus.search.search import SearchCV
from isthmus.search.together import fit_together

__all__ = ["SearchCV", "fit_together"]
