"""Concurrent fits: cross-validated search over settings, and several autoencoders at once.

Networks of the same architecture are trained in batches of matrices, so many small fits take little
longer than a few. Each fit takes the same steps as alone, within rounding errors. In single
precision these grow over many steps.
"""

from isthmus.search.search import SearchCV
from isthmus.search.together import fit_together

__all__ = ["SearchCV", "fit_together"]
