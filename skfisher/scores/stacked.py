"""A closed form with a share of what a network would change about it."""

from __future__ import annotations

from typing import Any

from skfisher._backend.arrays import Array

__all__ = ["StackedScore"]


class StackedScore:
    """s = s_closed + share (s_network - s_closed), for one noise level.

    The network's part is the residual to the closed form, and the share, found on rows that neither
    was fitted to, is the least-squares weight of that residual: zero where it does not help, so
    that the sum is no worse than the closed form there.

    Parameters
    ----------
    closed : score model
    network : score model
    share : float
        In [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.scores import GaussianScore
    >>> narrow, wide = GaussianScore([0.0], [[1.0]]), GaussianScore([0.0], [[3.0]])
    >>> StackedScore(narrow, wide, 0.5)(np.asarray([[4.0]]), 1.0)
    array([[-1.5]])
    """

    name = "network"

    def __init__(self, closed: Any, network: Any, share: float) -> None:
        self.closed = closed
        self.network = network
        self.share = share
        self.n_features: int = closed.n_features
        self.precision: float | None = getattr(network, "precision", None)

    def __sklearn_clone__(self) -> StackedScore:
        return self

    def __call__(self, y: Array, sigma: float) -> Array:
        """Score at each row of `y`."""
        return self._mixed(self.closed(y, sigma), self.network(y, sigma))

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        """Score and Jacobian products."""
        first, second = self.closed.jvp(y, sigma, v), self.network.jvp(y, sigma, v)
        return self._mixed(first[0], second[0]), self._mixed(first[1], second[1])

    def both(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array, Array]:
        """Score, Jacobian product and product of the transpose; that of a closed form is equal."""
        s, hv = self.closed.jvp(y, sigma, v)
        other_s, other_hv, other_vh = self.network.both(y, sigma, v)
        return self._mixed(s, other_s), self._mixed(hv, other_hv), self._mixed(hv, other_vh)

    @property
    def linearization(self) -> Any:
        """How the network's products are taken."""
        return getattr(self.network, "linearization", None)

    def _mixed(self, closed: Array, network: Array) -> Array:
        return closed + self.share * (network - closed)
