"""Loading runs: at start, and again whenever the promoted run changes, without missing a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from recsys.artifacts import resolve_run
from recsys.errors import DependencyError, RecsysError
from recsys.rule_settings import load_rules
from recsys.text_search import SearchQuery
from recsys.types import Augmenter, FeatureSource, History, Query, UserFeatures
from serving.deps import Backend, Release, Search
from serving.guard import GuardedFeatures
from serving.settings import Settings
from serving.telemetry import Telemetry

WARMUP_REQUESTS = 3

log = logging.getLogger(__name__)

Stamp = tuple[int, int] | None
"""When a file was written, in nanoseconds, and its size; None where there is none."""
LoadRelease = Callable[[Path, Settings], Release]


def load_release(path: Path, settings: Settings) -> Release:
    """Load a run and prepare its feature reader.

    Raises:
        ArtifactError: the run is missing, unfinished or damaged.
    """
    from recsys.loading import load_run  # FAISS and ONNX Runtime load here, not when the service is imported

    rules = None if settings.rules is None else load_rules(settings.rules)
    run = load_run(path, settings.threads, verify=settings.verify, augment=settings.augment, rules=rules)

    def make_source() -> FeatureSource:
        if settings.feature_source == "snapshot":
            return run.snapshot()
        folder = settings.features or run.path.parent / "features"
        if not folder.is_dir():
            raise DependencyError(f"{folder}: there is no feature store here")
        from serving.features import OnlineFeatureSource  # Feast takes seconds to import

        return OnlineFeatureSource(folder, run.config.features.ttl_days)

    features = GuardedFeatures(
        make_source, settings.feature_timeout_ms / 1000, settings.feature_cooldown_seconds
    )
    features.warm()
    return Release(
        path=run.path,
        run_id=run.run_id,
        backend=run.recommender,
        features=features,
        moment=run.moment,
        ttl_days=run.config.features.ttl_days,
        augmenter=run.augmenter,
        search=run.text_search(settings.threads) if settings.search and run.has_text_encoder else None,
    )


def warm_up(backend: Backend, augmenter: Augmenter, moment: int, search: Search | None = None) -> None:
    """A few requests of each sort, so that no user waits for the first page to be read from disk."""
    items = backend.vocabulary.item_ids[:5]
    history = History(items, ("interaction",) * len(items), tuple(range(moment - len(items), moment)))
    known = Query(k=20, moment=moment, features=UserFeatures("", history, len(items)))
    one = History(items[:1], history.event_types[:1], history.timestamps[:1])
    short = Query(k=20, moment=moment, features=UserFeatures("", one, len(one)))
    for _ in range(WARMUP_REQUESTS):
        backend.recommend([known])
        backend.recommend([augmenter.augment(short, limited=False)])
        backend.recommend([Query(k=20, moment=moment)])
        if search is not None:
            search.search([SearchQuery("a few words", known), SearchQuery("word", Query(20, moment))])
    if items:
        backend.similar(items[0], 20)
        backend.item(items[0])


class Releases:
    """The release that answers, replaced whole when the run's link moves.

    A run that cannot be loaded leaves the one before in place; it is reported, and tried again when the link
    moves or after `RETRY_POLLS` looks.
    """

    RETRY_POLLS = 12

    def __init__(self, settings: Settings, load: LoadRelease, telemetry: Telemetry) -> None:
        self._settings, self._load, self._telemetry = settings, load, telemetry
        self.current: Release | None = None
        self.problem: str | None = None
        """Why there is no release, or why the newest run was not taken; None when all is well."""
        self._rules: Stamp = None
        """The file of rules as it was when it was last read."""
        self._failed: tuple[Path, Stamp] | None = None
        self._polls_left = 0

    async def follow(self) -> None:
        """Load the run, then look at its link again and again; ends when cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._settings.poll_seconds)

    async def refresh(self) -> None:
        """Look once, and load what the link points to when that, or the file of rules, is new."""
        target, rules = self._settings.run, _stamp(self._settings.rules)
        try:
            target = await asyncio.to_thread(resolve_run, self._settings.run)
            if self.current is not None and (self.current.path, self._rules) == (target, rules):
                self.problem = self._failed = None
                return
            if (target, rules) == self._failed and self._polls_left > 0:
                self._polls_left -= 1
                return
            release = await asyncio.to_thread(self._load_and_warm, target)
        except Exception as error:  # noqa: BLE001 - a run that cannot be loaded must not end the service that still has one
            self._note_failure((target, rules), error)
            return
        self._rules = rules
        self._take_over(release)

    def _load_and_warm(self, target: Path) -> Release:
        release = self._load(target, self._settings)
        warm_up(release.backend, release.augmenter, release.moment, release.search)
        return release

    def _take_over(self, release: Release) -> None:
        before, self.current = self.current, release
        self.problem = self._failed = None
        self._telemetry.took_over(release.run_id, len(release.backend.vocabulary))
        self._telemetry.ops_skipped.set(len(release.augmenter.skipped))
        log.info("run %s answers, %d items", release.run_id, len(release.backend.vocabulary))
        if before is not None and isinstance(before.features, GuardedFeatures):
            # Requests that began with the old release may still read; give them time.
            delay = 2 * self._settings.feature_timeout_ms / 1000
            asyncio.get_running_loop().call_later(delay, before.features.close)

    def _note_failure(self, target: tuple[Path, Stamp], error: Exception) -> None:
        known = isinstance(error, RecsysError)
        self.problem = str(error) if known else f"{target[0]}: could not be loaded ({type(error).__name__})"
        if target != self._failed:
            log.error("run not loaded: %s", self.problem, exc_info=None if known else error)
        self._failed, self._polls_left = target, self.RETRY_POLLS
        self._telemetry.loads.labels("failed").inc()


def _stamp(path: Path | None) -> Stamp:
    try:
        found = path.stat() if path is not None else None
    except OSError:  # loading says what is wrong with it
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size)


@contextlib.asynccontextmanager
async def following(releases: Releases) -> AsyncIterator[None]:
    """Follow the run while the block lasts."""
    task = asyncio.create_task(releases.follow())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
