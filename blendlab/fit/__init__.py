"""The fitted source: bases and attention optimised on one picture's own masks. They have seen the answer.

`fit` is the ceiling at one K, M and R; `fit_nested` serves every K, M and R at once; `fitted` is that, kept on disk.
"""

from .optimise import fit, fit_nested
from .store import fitted

__all__ = ["fit", "fit_nested", "fitted"]
