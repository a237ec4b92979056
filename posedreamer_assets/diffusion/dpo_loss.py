"""The loss of Flow-DPO.

For a winner and a loser image of the same pose, with velocity targets v_w and v_l, the loss of paper section 3.2 is

    L = -E log sigmoid(-beta_t / 2 * ((|v_w - v_theta|^2 - |v_w - v_ref|^2) - (|v_l - v_theta|^2 - |v_l - v_ref|^2)))

with beta_t = beta (1 - t^2), where t is the noise level (0 is the image, 1 is noise) and |.|^2 is the mean over tokens
and channels, in which tokens that show the body may count for more: the preference is about the body, and what is behind
it differs between winner and loser by chance.
"""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class PairErrors(NamedTuple):
    """Velocity errors of b pairs, each (b,): mean squares over tokens and channels."""

    winner: Float[Tensor, "b"]
    loser: Float[Tensor, "b"]


def velocity_error(
    velocity: Float[Tensor, "b tokens c"], target: Float[Tensor, "b tokens c"], weight: Float[Tensor, "b tokens"]
) -> Float[Tensor, "b"]:
    """Mean square of the difference over channels, then its mean over tokens with these weights, in float32."""
    error = (velocity.float() - target.float()).square().mean(2)
    return (weight * error).sum(1) / weight.sum(1)


def beta_at(sigma: Float[Tensor, "b"], beta: float) -> Float[Tensor, "b"]:
    """beta_t = beta (1 - t^2)."""
    return beta * (1.0 - sigma.square())


def preference_margin(
    policy: PairErrors, reference: PairErrors, sigma: Float[Tensor, "b"], beta: float
) -> Float[Tensor, "b"]:
    """The argument of the log-sigmoid: positive where the policy, more than the reference, prefers the winner."""
    gain = (policy.winner - reference.winner) - (policy.loser - reference.loser)
    return -0.5 * beta_at(sigma, beta) * gain


def flow_dpo_loss(
    policy: PairErrors, reference: PairErrors, sigma: Float[Tensor, "b"], beta: float
) -> Float[Tensor, "b"]:
    """The loss of each pair; log 2 where policy and reference agree."""
    return -F.logsigmoid(preference_margin(policy, reference, sigma, beta))


def pair_figures(policy: PairErrors, reference: PairErrors, sigma: Tensor, beta: float) -> dict[str, Tensor]:
    """What a step reports, by name, each (b,)."""
    margin = preference_margin(policy, reference, sigma, beta)
    figures = {
        "loss": -F.logsigmoid(margin),
        "accuracy": (margin > 0).float(),
        "margin": margin,
        "policy_winner_error": policy.winner,
        "policy_loser_error": policy.loser,
        "reference_winner_error": reference.winner,
        "reference_loser_error": reference.loser,
    }
    return {name: value.detach() for name, value in figures.items()}
