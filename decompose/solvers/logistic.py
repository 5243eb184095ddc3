"""L1 logistic regression of many targets over one dictionary: Newton steps on working sets, in parallel.

T targets (n, d) of 0 and 1, D dictionary (m, d), Z codes (n, m), with an intercept that is not penalised. Each Newton
step is a non-negative lasso over a few atoms (Lee, Sun & Saunders 2014, "Proximal Newton-type methods"). Codes have
signs, so the atoms are those of D and of -D.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from decompose.solvers.activeset import Restricted, nonnegative_minimum, warn_unsolved, with_ridge, working_sets

_NEWTON_STEPS, _HALVINGS = 50, 30  # at most; halvings of a step
_ROUNDING = 1e-14  # relative to the objective, a sum of hundreds of terms
_LEAST_GAIN = 1e-9  # relative to the objective: a Newton step that gains less is the last


def logistic_codes(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], penalty: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "n m"], Float[Tensor, " n"]]:
    """Codes and intercepts that minimise sum log(1 + exp(y)) - t y over y = zD + b, plus penalty |z|_1.

    Every target holds both zeros and ones. Warns (`ConvergenceWarning`) if some targets are not optimal.
    """
    m, centre = len(D), D.mean(1)
    ones = torch.ones_like(D[:1])
    signed = torch.cat([D - centre[:, None], ones, centre[:, None] - D, -ones])  # the intercept is an atom too
    every = penalty[:, None].repeat(1, len(signed))
    every[:, [m, 2 * m + 1]] = 0
    odds = T.mean(1, keepdim=True).logit()
    begin = torch.where(odds > 0, m, 2 * m + 1), odds.abs()
    Z = T.new_zeros(len(T), len(signed))
    warn_unsolved(working_sets(T, signed, every, begin, _restricted, _residual, Z, len(signed)), len(T))
    Z = Z[:, : m + 1] - Z[:, m + 1 :]
    return Z[:, :m], Z[:, m] - Z[:, :m] @ centre


def _residual(
    T: Float[Tensor, "n d"], D: Float[Tensor, "m d"], atoms: Int[Tensor, "n w"], values: Float[Tensor, "n w"]
) -> Float[Tensor, "n d"]:
    return T - torch.sigmoid((values[:, None] @ D[atoms])[:, 0])


def _restricted(problem: Restricted) -> Float[Tensor, "n w"]:
    T, D, penalty, atoms, values, allowed = problem
    chosen = D[atoms]
    before = _objective(T, chosen, penalty, values)
    for _ in range(_NEWTON_STEPS):
        p = torch.sigmoid((values[:, None] @ chosen)[:, 0])
        G = with_ridge((chosen * (p * (1 - p))[:, None]) @ chosen.mT)
        c = (G @ values[..., None])[..., 0] + (chosen @ (T - p)[..., None])[..., 0]
        way = nonnegative_minimum(G, c - penalty, values, allowed) - values
        values, now = _search(T, chosen, penalty, values, way, before)
        if (before - now <= _LEAST_GAIN * before).all():
            break
        before = now
    return values


def _search(
    T: Float[Tensor, "n d"],
    chosen: Float[Tensor, "n w d"],
    penalty: Float[Tensor, "n w"],
    values: Float[Tensor, "n w"],
    way: Float[Tensor, "n w"],
    before: Float[Tensor, " n"],
) -> tuple[Float[Tensor, "n w"], Float[Tensor, " n"]]:
    """The new values and their objective: a full step along `way`, halved until it does not raise the objective.

    Rounding is allowed for: near the optimum, steps that the gradient still needs change the objective by less than its
    last digit.
    """
    most = before * (1 + _ROUNDING)
    step, now = torch.ones_like(before), _objective(T, chosen, penalty, values + way)
    for _ in range(_HALVINGS):
        if (now <= most).all():
            break
        step = torch.where(now <= most, step, step / 2)
        now = _objective(T, chosen, penalty, values + step[:, None] * way)
    step = torch.where(now <= most, step, 0)
    return values + step[:, None] * way, torch.minimum(now, before)


def _objective(
    T: Float[Tensor, "n d"], chosen: Float[Tensor, "n w d"], penalty: Float[Tensor, "n w"], values: Float[Tensor, "n w"]
) -> Float[Tensor, " n"]:
    y = (values[:, None] @ chosen)[:, 0]
    return (softplus(y) - T * y).sum(1) + (penalty * values).sum(1)
