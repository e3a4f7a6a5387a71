"""`recsys augment`: a module per command, imported when the command is asked for."""

from __future__ import annotations

from recsys.cli.lazy import LazyGroup

command = LazyGroup(
    "recsys.cli.augment",
    {
        # name: (module of this package, name in it, one sentence)
        "explain": ("explain", "explain", "Show an augmented row's parent, steps, scores and diff."),
        "ops": ("ops", "ops", "List the ops and their settings."),
        "replay": ("explain", "replay", "Make an augmented row again, and compare."),
        "report": ("report", "report", "One HTML page of what an expansion did."),
        "run": ("run", "run", "Expand a dataset's item texts and users' histories."),
        "search": ("search", "search", "Find the augmentation a dataset gains from, if any."),
    },
    name="augment",
    help="Augmentation ops: list, run, explain, replay.",
)
