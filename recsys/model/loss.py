"""The softmax loss as pure maths on embeddings: who the candidates are is decided elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor


def multi_target_softmax(
    users: Tensor,
    candidates: Tensor,
    temperature: Tensor | float,
    log_corrections: Tensor,
    pair_users: Tensor,
    pair_candidates: Tensor,
    pair_weights: Tensor,
    *,
    row_scores: Tensor | None = None,
    left_out: Tensor | None = None,
    harder: Tensor | None = None,
    pair_corrections: Tensor | None = None,
) -> Tensor:
    """Weighted sum of `-log softmax` over (user, target) pairs.

    A user's other targets are not negatives of the pair at hand (false-negative mask); an item is one
    column however often the batch holds it (duplicate mask). With `s` the similarity over temperature and
    `c` the correction of a column,

        loss(i, t) = log(1 + exp(Z_i - s_it)),   Z_i = log sum_{j not a target of i} exp(s_ij + c_j)

    The target itself carries no correction: it is always among its candidates, not sampled. The gradient is
    `(1 - P_it)` times that of `Z_i - s_it`, which is the corrected logQ of Khrylchenko et al.
    (arXiv:2507.09331). With `c = 0` over the whole seen catalogue this is the full softmax; with `c =
    log(|rest| / n)` on n uniform negatives, or `c = log(count in batch) - log(expected count)` on in-batch
    ones (the logQ correction of Yi et al., RecSys 2019), `exp(Z_i)` is an unbiased estimate of its sum.

    Args:
        users: (batch, dim), unit norm.
        candidates: (num_candidates, dim), unit norm.
        temperature: Similarities are divided by it.
        log_corrections: (num_candidates,), added to the logits of non-targets.
        pair_users: (num_pairs,) row in `users`.
        pair_candidates: (num_pairs,) column: the target's place among the candidates.
        pair_weights: (num_pairs,).
        row_scores: (batch, num_candidates) added to the similarities, before they are divided.
        left_out: (batch, num_candidates) bool: more columns that are no negatives of a row.
        harder: (batch, any) logits of further negatives of each row alone, -inf where there is none.
        pair_corrections: (num_pairs,) added to the targets' own logits.

    Returns:
        A scalar: the sum, not the mean, so that parts of a batch add up to the whole.
    """
    similarities = users @ candidates.T  # (batch, num_candidates)
    if row_scores is not None:
        similarities = similarities + row_scores
    similarities = similarities / temperature
    targets = torch.zeros_like(similarities, dtype=torch.bool)
    targets[pair_users, pair_candidates] = True
    if left_out is not None:
        targets = targets | left_out
    negatives = (similarities + log_corrections).masked_fill(targets, -torch.inf)
    if harder is not None:
        negatives = torch.cat([negatives, harder], dim=1)
    rest = torch.logsumexp(negatives, dim=1)  # (batch,)
    own = similarities[pair_users, pair_candidates]
    gaps = rest[pair_users] - (own if pair_corrections is None else own + pair_corrections)
    return (torch.nn.functional.softplus(gaps) * pair_weights).sum()
