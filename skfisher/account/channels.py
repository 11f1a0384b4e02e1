"""The four laws about an anchor, and their common noise."""

from __future__ import annotations

from skfisher._backend.arrays import Array, namespace
from skfisher._backend.draws import normal
from skfisher._backend.moments import triangle_of
from skfisher.account.inputs import Case

__all__ = ["channels_at", "log_map"]

_NOISE, _FRESH = 541, 542  # streams of the draws
_COUPLED = 128  # most dimensions, or rows, from which noise off the tangents is coupled


def channels_at(
    case: Case, a: int, n_draws: int, seed: int
) -> tuple[list[tuple[Array | None, Array]], Array]:
    """Rows about an anchor and noise of the four channels; rows beyond the chart, as 0 or 1.

    Rows are None where a channel equals the one before it.
    """
    xp = namespace(case.X)
    x, z = (points - points[int(case.places[a]), :][None, :] for points in (case.X, case.Z))
    U, hull, rank = case.U[a, :, :], case.hull, case.retained[a]
    U_x = U if hull is None else xp.matmul(xp.matrix_transpose(hull), U)
    k = U.shape[1]
    eps = _draws(seed, _NOISE, int(case.rows[a]), n_draws, U.shape[0], x)
    along = xp.matmul(eps, U)
    eps = eps if hull is None else xp.matmul(eps, hull)
    p = xp.matmul(x, U_x)
    squares = xp.sum(x**2, axis=1)
    v, beyond, normals = p, xp.zeros_like(squares), None
    flat = False
    if case.II is not None:
        v, beyond = log_map(p, squares, case.II[a, ...])
    else:
        rest = xp.max(xp.abs(squares - xp.sum(p**2, axis=1)))
        if float(rest) <= 1e-8 * float(xp.max(squares)):
            normals = x - xp.matmul(p, xp.matrix_transpose(U_x))
            flat = float(xp.max(xp.sum(normals**2, axis=1))) <= 1e-20 * float(xp.max(squares))
    turned = xp.matmul(along, xp.matrix_transpose(case.right[a, :, :]))
    image = xp.matmul(v, xp.matrix_transpose(case.right[a, :, :])) * case.stretch[a, :][None, :]
    Q = case.left[a, :, :rank]
    eps_z = xp.matmul(turned[:, :rank], xp.matrix_transpose(Q))
    if rank < z.shape[1]:
        fresh = _draws(seed, _FRESH, int(case.rows[a]), n_draws, z.shape[1], x)
        if not flat and k < x.shape[1]:
            if normals is None:
                normals = x - xp.matmul(p, xp.matrix_transpose(U_x))
            into, out_of = _coupling(normals, z, U_x, Q, squares)
            eps_z = eps_z + xp.matmul(xp.matmul(eps, out_of), xp.matrix_transpose(into))
            Q = xp.concat([Q, into], axis=1)
        eps_z = eps_z + fresh - xp.matmul(xp.matmul(fresh, Q), xp.matrix_transpose(Q))
    return [(v, along), (None if flat else x, eps), (image, turned), (z, eps_z)], beyond


def _draws(seed: int, stream: int, row: int, n_draws: int, size: int, ref: Array) -> Array:
    """Antithetic pairs of standard normal draws: (n_draws, size)."""
    half = (n_draws + 1) // 2
    eps = normal(seed, (stream,), slice(row * half, (row + 1) * half), size, ref)
    return namespace(ref).concat([eps, -eps])[:n_draws, :]


def log_map(p: Array, squares: Array, II: Array) -> tuple[Array, Array]:
    """Tangent projections p (N, k) at the length of their geodesics; rows beyond the chart."""
    xp = namespace(p)
    k = p.shape[1]
    rows, columns, factors = triangle_of(k, p)
    form = xp.take(xp.reshape(II, (-1, k * k)), rows * k + columns, axis=1) * factors[None, :]
    products = xp.take(p, rows, axis=1) * xp.take(p, columns, axis=1) * factors[None, :]
    if form.shape[0] > form.shape[1]:
        form = xp.linalg.qr(form)[1]  # the same lengths |II(p, p)| from fewer rows
    bend = xp.sum(xp.matmul(products, xp.matrix_transpose(form)) ** 2, axis=1)
    length2 = xp.sum(p**2, axis=1)
    safe = xp.where(length2 > 0.0, length2, 1.0)
    half_turn = xp.sqrt(bend * squares) / safe / 2.0
    inside = xp.clip(half_turn, min=1e-9, max=1.0)
    stretched = xp.sqrt(squares / safe) * xp.asin(inside) / inside
    beyond = xp.astype(half_turn > 1.0 + 1e-6, p.dtype)
    return p * xp.where(length2 > 0.0, stretched, 0.0)[:, None], beyond


def _coupling(normals: Array, z: Array, U: Array, Q: Array, squares: Array) -> tuple[Array, Array]:
    """Orthonormal columns in the latent off range(Q), and in the data off range(U), that pair up.

    The polar factor of sum_i (offset of z_i) (offset of x_i)^T / |x_i - x_j|^2. Any pairing leaves
    the law of the noise as it is; this one makes a rigid map exact and lowers the variance.
    """
    xp = namespace(z)
    long = min(z.shape[1], U.shape[0]) > _COUPLED
    if long:
        rows = xp.argsort(squares)[: _COUPLED + 1]
        normals, z, squares = (xp.take(part, rows, axis=0) for part in (normals, z, squares))
    offsets = z - xp.matmul(xp.matmul(z, Q), xp.matrix_transpose(Q))
    weights = xp.where(squares > 0.0, 1.0 / xp.where(squares > 0.0, squares, 1.0), 0.0)
    for part, whole in ((normals, squares), (offsets, xp.sum(z**2, axis=1))):
        # offsets that are rounding point anywhere, along the tangents too
        weights = xp.where(xp.sum(part**2, axis=1) > 1e-20 * xp.max(whole), weights, 0.0)
    root = xp.sqrt(weights)[:, None]
    offsets_t, normals_t = (xp.matrix_transpose(root * part) for part in (offsets, normals))
    if long:
        (wide_z, offsets_t), (wide_x, normals_t) = map(xp.linalg.qr, (offsets_t, normals_t))
    cross = xp.matmul(offsets_t, xp.matrix_transpose(normals_t))
    into, values, out_of = xp.linalg.svd(cross, full_matrices=False)
    out_of = xp.matrix_transpose(out_of)
    if long:
        into, out_of = xp.matmul(wide_z, into), xp.matmul(wide_x, out_of)
    kept = int(xp.count_nonzero(values > 1e-12 * values[0]))
    into, out_of = into[:, :kept], out_of[:, :kept]
    # small singular values leave their vectors with a part along the tangents
    into = into - xp.matmul(Q, xp.matmul(xp.matrix_transpose(Q), into))
    return into, out_of - xp.matmul(U, xp.matmul(xp.matrix_transpose(U), out_of))
