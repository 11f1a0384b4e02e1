"""J and R of a given network against a bare loop of the same torch products, and against probes.

    OMP_NUM_THREADS=1 python benchmarks/bench_linearize.py

Time: for each network, `form_rows` and `combine` (J and R from one product at each noisy point)
and a loop that does nothing but these products in torch, on the same points in the same chunks,
in turns in one run; the median of the ratios of processor time. Products: how many times fewer the
forms need at each level than 3,500 probes at each point for the same error of J and of R, for
mixtures in 64 dimensions dressed as networks. Writes benchmarks/results/linearize.json. Needs torch
and diffusers.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from _record import environment, write_json

from skfisher._backend.linearize import TensorFunction
from skfisher.forms import combine, form_rows, stderr_of, value_of
from skfisher.scores import GaussianMixtureScore
from skfisher.traces import pooled_means

RESULT = Path(__file__).parent / "results" / "linearize.json"
PROBES = 3500  # a point, the default of the nearest peer
LEVELS = (0.1, 0.3, 1.0, 3.0)  # RMS
SPREADS = (1.0, 2.0, 10.0)  # greatest over least variance of the mixtures' components


# -- time ----------------------------------------------------------------------------------------


def mlp():
    def block(a, b):
        return [torch.nn.Linear(a, b), torch.nn.SiLU()]

    width, n = 512, 64
    net = torch.nn.Sequential(
        *block(n, width), *block(width, width), *block(width, width), torch.nn.Linear(width, n)
    )
    return lambda y, sigma: net(y) / sigma, n


def unet():
    from diffusers import UNet2DModel

    net = UNet2DModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    ).eval()

    def fn(y, sigma):
        return net(y.reshape(-1, 4, 16, 16), 500).sample.reshape(y.shape) / sigma

    return fn, 4 * 16 * 16


def dit():
    from diffusers import DiTTransformer2DModel

    net = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=4,
        num_layers=4,
        sample_size=16,
        patch_size=2,
        num_embeds_ada_norm=1000,
    ).eval()

    def fn(y, sigma):
        x = y.reshape(-1, 4, 16, 16)
        time = torch.full((len(x),), 500)
        label = torch.zeros(len(x), dtype=torch.long)
        return net(x, timestep=time, class_labels=label).sample.reshape(y.shape) / sigma

    return fn, 4 * 16 * 16


NETWORKS = {"MLP": (mlp, 1000), "UNet2DModel": (unet, 32), "DiTTransformer2DModel": (dit, 64)}


class Given:
    """A network as a score model."""

    name = "given"

    def __init__(self, fn):
        self.function = TensorFunction(fn, dtype=torch.float32, mode="reverse")
        self.precision = self.function.precision

    def __call__(self, y, sigma):
        return self.function.value(y, sigma)

    def jvp(self, y, sigma, v):
        return self.function.jvp(y, sigma, v)


def j_and_r(model, x, eps, sigma):
    n = x.shape[1]
    means, cov = pooled_means(form_rows(model, x, eps, sigma, one_step=False).values)
    mixed = combine(means, cov, n, len(x), one_step=False)
    j, rho = value_of(mixed.j, means), value_of(mixed.rho, means) + mixed.rho_constant
    return j / sigma**2, rho / sigma**4


def bare_products(fn, y, v, sigma, rows):
    """Value and product at every point, and the sums that J and R are made of."""
    sums = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(y), rows):
        leaf = y[start : start + rows].clone().requires_grad_(True)
        probe = v[start : start + rows]
        s = fn(leaf, sigma)
        (product,) = torch.autograd.grad(s, leaf, probe)
        s = s.detach()
        sums += torch.stack([(s * s).sum(), (product * probe).sum(), (product * product).sum()])
    return sums


def time_of(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def timed(name, repeats):
    make, m = NETWORKS[name]
    torch.manual_seed(0)
    fn, n = make()
    rng = np.random.default_rng(0)
    x, eps = rng.standard_normal((m, n)), rng.standard_normal((m, 1, n))
    sigma = 0.5
    signed = np.concatenate([eps[:, 0], -eps[:, 0]])
    y = torch.as_tensor(np.concatenate([x, x]) + sigma * signed, dtype=torch.float32)
    v = torch.as_tensor(np.sign(rng.standard_normal(y.shape)), dtype=torch.float32)
    model = Given(fn)
    j_and_r(model, x, eps, sigma)
    rows = min(model.function._rows, m)
    ours, bare = [], []
    for turn in range(repeats):
        pair = [
            (ours, lambda: j_and_r(model, x, eps, sigma)),
            (bare, lambda: bare_products(fn, y, v, sigma, rows)),
        ]
        for times, work in pair if turn % 2 else pair[::-1]:
            times.append(time_of(work))
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return {
        "network": name,
        "dimension": n,
        "parameters": sum(p.numel() for p in parameters(fn)),
        "products": len(y),
        "rows in a chunk": rows,
        "seconds": statistics.median(ours),
        "seconds of the bare loop": statistics.median(bare),
        "ratio": statistics.median(ratios),
        "repeats": repeats,
    }


def parameters(fn):
    (net,) = (cell.cell_contents for cell in fn.__closure__)
    return net.parameters()


# -- products ------------------------------------------------------------------------------------


class Dressed:
    """A model of which only values and products can be had."""

    name = "dressed"

    def __init__(self, model):
        self.model = model

    def __call__(self, y, sigma):
        return self.model(y, sigma)

    def jvp(self, y, sigma, v):
        return self.model.jvp(y, sigma, v)


def mixture(spread, n=64, k=10, condition=5.0):
    """k components, each turned its own way, six deviations apart.

    Their variances differ by up to `spread`.
    """
    rng = np.random.default_rng(0)
    spectrum = np.geomspace(1 / condition, 1.0, n)
    turned = [np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(k)]
    means = 3 * rng.standard_normal((k, n)) / math.sqrt(n)
    scales = np.geomspace(1 / math.sqrt(spread), math.sqrt(spread), k)
    covariances = [Q * (scale * spectrum) @ Q.T for scale, Q in zip(scales, turned, strict=True)]
    return GaussianMixtureScore(rng.dirichlet([5.0] * k), means, covariances)


def counted(spread, level, m=1000):
    model = mixture(spread)
    n = model.n_features
    sigma = level * float(np.sqrt(np.var(model.sample(20_000, 3), axis=0).mean()))
    x, eps = model.sample(m, 1), np.random.default_rng(2).standard_normal((m, 1, n))
    forms = form_rows(Dressed(model), x, eps, sigma, one_step=False)
    means, cov = pooled_means(forms.values)
    mixed = combine(means, cov, n, m, one_step=False)
    inflate = math.sqrt(m / (m - mixed.n_multiples))
    j, rho = value_of(mixed.j, means), value_of(mixed.rho, means) + mixed.rho_constant
    rate = n - 2 * j + rho
    error_of = {"J": mixed.j, "R": mixed.rho, "MMSE rate": mixed.rho - 2 * mixed.j}
    value_at = {"J": j, "R": rho, "MMSE rate": rate}
    # Of P probes at a point the mean of a trace scatters by its own scatter from point to point
    # and by that of one probe over P.
    y = x + sigma * eps[:, 0, :]
    local = model.moments(y, sigma)
    v = np.sign(np.random.default_rng(3).standard_normal(y.shape))
    move = sigma**2 * model.jvp(y, sigma, v)[1]
    of_probe = {
        "J": -np.sum(v * move, axis=1),
        "R": np.sum(move**2, axis=1),
        "MMSE rate": np.sum((v + move) ** 2, axis=1),
    }
    exact = {
        "J": -(sigma**2) * local.hessian_trace,
        "R": sigma**4 * local.hessian_squared_norm,
        "MMSE rate": local.denoiser_squared_norm,
    }
    row = {"spread": spread, "level": level, "points": m, "products": forms.n_products}
    for name, coefficients in error_of.items():
        error = inflate * stderr_of(coefficients, cov)
        variance = np.var(exact[name]) + np.mean((of_probe[name] - exact[name]) ** 2) / PROBES
        row[f"relative stderr of {name}"] = float(error / value_at[name])
        # both errors fall as one over the root of the number of points
        row[f"times fewer products for {name}"] = float(
            variance / error**2 * PROBES / forms.n_products
        )
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    content = {
        "environment": environment() | {"torch": torch.__version__},
        "time": [],
        "products": [],
    }
    for spread in SPREADS:
        for level in LEVELS:
            content["products"].append(counted(spread, level))
            print(json.dumps(content["products"][-1]), flush=True)
    for name in NETWORKS:
        content["time"].append(timed(name, arguments.repeats))
        print(json.dumps(content["time"][-1]), flush=True)
        write_json(arguments.out, content)


if __name__ == "__main__":
    main()
