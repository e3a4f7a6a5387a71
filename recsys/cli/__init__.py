"""The command line: a table of contents and the one seam where errors become exit statuses.

Commands live in modules of their own and are imported when called, so that `recsys --help` does not wait
for torch.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import click

from recsys import __version__
from recsys.cli.lazy import LazyGroup
from recsys.errors import RecsysError

COMMANDS: dict[str, tuple[str, str, str]] = {
    # name: (module under recsys.cli, name in it, one sentence)
    "ablate": ("ablate", "command", "What each op, source, feature group and training option is worth."),
    "augment": ("augment", "command", "Augmentation ops: list, run, explain, replay."),
    "compare": ("compare", "command", "An offline A/B of augmentation, with a verdict per segment."),
    "data": ("data", "command", "Check a dataset, make a sample shop, fetch a public set."),
    "demo": ("demo", "command", "A made-up shop from nothing to ranked recommendations."),
    "doctor": ("doctor", "command", "Say what is installed, which device will be used, what is missing."),
    "evaluate": ("evaluate", "command", "Score ranked lists against what users did afterwards."),
    "features": ("features", "command", "Apply, materialise or show the feature store."),
    "recommend": ("recommend", "command", "Write ranked lists for a file of users."),
    "run": ("run", "command", "Every stage, from two files to a promoted run."),
    "search": ("search", "command", "Find items of a run by text, misspelled or not."),
    "serve": ("serve", "command", "Answer recommendation requests over HTTP."),
    "social": ("transfer", "social", "What friends' events are worth, where a dataset has relations."),
    "transfer": ("transfer", "transfer", "Train on one dataset, recommend in another."),
    "tune": ("tune", "command", "Which settings the data gain from, confirmed on the newest slice once."),
}

_NOISY = (
    "faiss.loader", "feast", "httpx", "matplotlib", "onnx_ir", "onnxscript", "torch.onnx", "transformers",
    "urllib3",
)  # fmt: skip
"""Libraries whose remarks below a warning are of no use to a reader of our log."""


@click.command(
    cls=LazyGroup,
    package="recsys.cli",
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="recsys")
@click.option("-v", "--verbose", is_flag=True, help="Log what is being done, and tracebacks of failures.")
def cli(verbose: bool) -> None:
    """A recommender for shops whose histories are short and whose item texts are thin."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(name)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 2 bad usage or input, 1 failure."""
    verbose = bool(os.environ.get("RECSYS_TRACEBACK"))
    # Threads of torch and FAISS that spin while they wait cost a busy machine a factor of six.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        left = cli.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except RecsysError as error:
        if verbose:
            raise
        return _complain(str(error), error.exit_code)
    except click.ClickException as error:
        hint = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "recsys"
        return _complain(f"{error.format_message()} (try '{hint} --help')", 2)
    except (click.Abort, KeyboardInterrupt):
        return _complain("stopped", 1)
    except BrokenPipeError:  # the reader of our output (head, less) went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return left if isinstance(left, int) else 0  # what a command gave to ctx.exit()


def _complain(message: str, status: int) -> int:
    click.echo(f"recsys: {' '.join(message.split())}", err=True)
    return status


def run() -> None:
    """Entry point of the `recsys` script."""
    sys.exit(main())
