"""A branch of a policy over a range of contexts at once: what `recsys.augment.grow.grow` gives, in arrays."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.augment.borrow import Borrow, CrossDomainBorrow, SocialBorrow
from recsys.augment.columns.edits import Chains
from recsys.augment.columns.histories import Histories, HistoryRows, Known, SideColumns
from recsys.augment.columns.histories_borrow import borrow
from recsys.augment.columns.histories_cut import crop, item_dropout, mask, reorder, sub_history
from recsys.augment.columns.histories_judge import REASONS, judge
from recsys.augment.columns.histories_put import backward_extension, counterfactual, insert, substitute
from recsys.augment.columns.lazy import Numbers, Plans, Strings
from recsys.augment.columns.running import Forms, has_form, run
from recsys.augment.columns.runs import Ints
from recsys.augment.columns.spans import Spans
from recsys.augment.example import HistoryExample
from recsys.augment.extend import BackwardExtension, Counterfactual, SubHistory
from recsys.augment.grow import Grown
from recsys.augment.history import Crop, Insert, ItemDropout, Reorder, Substitute
from recsys.augment.mask import Mask
from recsys.augment.policy import Branch
from recsys.contexts import Contexts
from recsys.randomness import row_states
from recsys.streams import Streams

HISTORY_FORMS: Forms[Histories] = {
    BackwardExtension: backward_extension,
    Borrow: borrow,
    Counterfactual: counterfactual,
    Crop: crop,
    CrossDomainBorrow: borrow,
    Insert: insert,
    ItemDropout: item_dropout,
    Mask: mask,
    Reorder: reorder,
    SocialBorrow: borrow,
    SubHistory: sub_history,
    Substitute: substitute,
}
"""Column forms of history ops: a new one is one line here and one in the test of column forms."""


def by_columns(branch: Branch) -> bool:
    """Whether a branch on histories runs by columns: all its ops have a column form."""
    return has_form(branch.ops, HISTORY_FORMS)


def context_rows(contexts: Contexts, start: int, stop: int, side: SideColumns) -> HistoryRows:
    """Contexts `start` to `stop` as rows of augmentation; `context_examples` gives them one by one."""
    offsets, targets_at = (
        contexts.history_offsets[start : stop + 1],
        contexts.target_offsets[start : stop + 1],
    )
    span, target_span = slice(offsets[0], offsets[-1]), slice(targets_at[0], targets_at[-1])
    targets = Spans(targets_at - targets_at[0], np.asarray(contexts.target_rows[target_span]))
    lent = {name: lender(start, stop) for name, lender in side.side.lenders.items()}
    known = Known(targets, side, lent)
    histories = Histories(
        np.asarray(offsets - offsets[0]),
        np.asarray(contexts.history_rows[span]),
        np.asarray(contexts.history_events[span]),
        np.asarray(contexts.history_timestamps[span]),
        np.arange(stop - start),
        known,
    )
    users = pa.array(contexts.user_ids[start:stop], pa.string())
    moments = pa.array(contexts.moments[start:stop]).cast(pa.string())
    return HistoryRows(Strings(pc.binary_join_element_wise("user:", users, "@", moments, "")), histories)


def grow_rows(
    rows: HistoryRows, branch: Branch, seed: int, policy_id: str, first: int = 0
) -> Grown[HistoryExample]:
    """Run a branch's ops over rows; what `grow` gives for the same rows as examples, in columns.

    Args:
        rows: The originals; their ids key the draws.
        branch: One that runs `by_columns`.
        seed: The run's seed.
        policy_id: Goes into the children's ids.
        first: Position of the first row, when these are a chunk of more.
    """
    count, copies = len(rows), branch.copies
    ids = rows.row_ids.values
    states = [row_states(ids, seed, "augment", "history", copy) for copy in range(copies)]
    tried = np.repeat(np.arange(count), copies)  # all copies of a row, then those of the next
    streams = Streams(np.stack(states, axis=1).reshape(-1))
    edited = run(branch.ops, rows.histories.take(tried), streams, HISTORY_FORMS)
    if edited is None:
        return Grown(counts=Counter(rows=count, left_alone=len(tried), accepted=0))
    parents = tried[edited.rows]
    reasons, gone = judge(branch.acceptance, rows.histories.take(parents), edited.batch)
    kept = np.flatnonzero(reasons < 0)
    originals = rows.take(parents[kept])
    suffixes = pa.array([f"~{policy_id}.{copy}" for copy in range(copies)])
    row_ids = pc.binary_join_element_wise(
        originals.row_ids.arrow, suffixes.take(pa.array(edited.rows[kept] % copies)), ""
    )
    grown: Grown[HistoryExample] = Grown(
        parents=Numbers(parents[kept] + first),
        row_ids=Strings(row_ids),
        parent_ids=originals.row_ids,
        originals=originals,
        children=HistoryRows(originals.row_ids, edited.batch.take(kept)),
        plans=Plans(branch.ops, Strings(edited.plans.whole())).take(kept),
        chains=Strings(edited.chains.texts()).take(kept),
        modification=Numbers(gone[kept]),
        refusals=_refusals(edited.chains, reasons),
    )
    for (_, reason), refused in grown.refusals.items():
        grown.counts[f"rejected:{reason}"] += refused
    grown.counts.update(rows=count, left_alone=len(tried) - len(parents), accepted=len(kept))
    return grown


def _refusals(chains: Chains, reasons: Ints) -> Counter[tuple[str, str]]:
    refused = reasons >= 0
    numbers, counts = np.unique(chains.codes[refused] * len(REASONS) + reasons[refused], return_counts=True)
    pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
    return Counter(
        {
            (chains.names[number // len(REASONS)], REASONS[number % len(REASONS)]): count
            for number, count in pairs
        }
    )
