"""Surfaces whose geometry is known in closed form."""

import numpy as np

__all__ = ["cylinder", "embedded", "sphere", "torus"]


def sphere(rng, n_samples):
    points = rng.normal(size=(n_samples, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def cylinder(rng, n_samples, height=4.0, arc=2 * np.pi):
    angle = rng.uniform(0, arc, n_samples)
    return np.stack([np.cos(angle), np.sin(angle), rng.uniform(0, height, n_samples)], axis=1)


def torus(rng, n_samples, R=2.0, r=0.7):
    """Uniform in area: the density of the inner angle is proportional to R + r cos b."""
    found = []
    while len(found) < n_samples:
        b, accept = rng.uniform(0, 2 * np.pi), rng.uniform(0, R + r)
        if accept < R + r * np.cos(b):
            found.append(b)
    a, b = rng.uniform(0, 2 * np.pi, n_samples), np.asarray(found)
    wide = R + r * np.cos(b)
    return np.stack([wide * np.cos(a), wide * np.sin(a), r * np.sin(b)], axis=1)


def embedded(rng, points, noise=0.0, n_features=20):
    """Points turned into more dimensions, with noise as a share of the RMS scale; and the turn."""
    turn = np.linalg.qr(rng.normal(size=(n_features, points.shape[1])))[0].T
    X = points @ turn
    scale = np.sqrt(X.var(axis=0).mean())
    return X + noise * scale * rng.normal(size=X.shape), turn
