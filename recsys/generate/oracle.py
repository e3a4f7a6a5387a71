"""One oracle for all ops of a policy: what is known comes from the file, the rest from the services."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from recsys.augment.asking import Answer, MaskedService, Request, Service, TranslationService
from recsys.augment.policy import Policy
from recsys.augment.rounds import asks
from recsys.errors import DependencyError
from recsys.generate.cache import AnswerFile, answer_key

logger = logging.getLogger(__name__)

_PASSING = frozenset({"budget", "unreachable", "rejected"})
"""Refusals that say nothing of the request itself."""

Done = Callable[[Request, Answer], None]
"""Takes an answer as soon as it is there."""


class Backend(Protocol):
    """What stands behind one service; cheap to make, a model is loaded with the first question."""

    @property
    def identity(self) -> str:
        """Names everything besides the request that an answer depends on."""

    def answer(self, requests: Sequence[Request], done: Done) -> None:
        """Answer each request once, through `done`, in any order but from the calling thread."""

    def spent(self) -> Mapping[str, int]:
        """What it has cost so far."""

    def close(self) -> None:
        """Let go of models and connections."""


class ModelOracle:
    """Answers requests from the file of answers, and what is not there from models and endpoints.

    What passes (a budget that is used up, a server that is down) is not kept: a later run asks again.

    Args:
        answers: File of answers kept between runs; None keeps them for this object's life.
        device: `auto`, `cpu` or `cuda`, for the models that run here.
        open_backend: What stands behind a service; the default knows all of them.
    """

    def __init__(
        self,
        answers: Path | None = None,
        device: str = "auto",
        open_backend: Callable[[Service, str], Backend] | None = None,
    ) -> None:
        self._file = AnswerFile(answers)
        self._device = device
        self._open = open_backend or backend_of
        self._backends: dict[Service, Backend] = {}
        self._counts: Counter[str] = Counter()

    def answer(self, requests: Sequence[Request]) -> dict[Request, Answer]:
        """An answer for each request, be it a refusal."""
        started = time.monotonic()
        by_service: dict[Service, list[Request]] = {}
        for request in requests:
            by_service.setdefault(request.service, []).append(request)
        answers: dict[Request, Answer] = {}
        try:
            for service, asked in by_service.items():
                self._ask(service, asked, answers)
        finally:
            self._counts["milliseconds"] += int(1000 * (time.monotonic() - started))
        return answers

    def spent(self) -> dict[str, int]:
        """Requests, how many of them the file answered, milliseconds, and what each service has cost."""
        total = Counter(self._counts)
        for backend in self._backends.values():
            total.update(backend.spent())
        return {f"oracle:{name}": count for name, count in sorted(total.items())}

    def close(self) -> None:
        """Close the file of answers, and let go of models and connections."""
        for backend in self._backends.values():
            backend.close()
        self._file.close()

    def __enter__(self) -> ModelOracle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, service: Service, requests: Sequence[Request], answers: dict[Request, Answer]) -> None:
        backend = self._backends.get(service)
        if backend is None:
            backend = self._backends[service] = self._open(service, self._device)
        keys = {request: answer_key(backend.identity, request.content, request.seed) for request in requests}
        known = self._file.get(list(keys.values()))
        answers.update({r: Answer(*known[key]) for r, key in keys.items() if key in known})
        missing = [request for request, key in keys.items() if key not in known]
        self._counts["requests"] += len(keys)
        self._counts["from_file"] += len(keys) - len(missing)
        if not missing:
            return
        logger.info("%s: %d questions, %d known", service.op, len(keys), len(keys) - len(missing))

        def done(request: Request, answer: Answer) -> None:
            answers[request] = answer
            if answer.refused not in _PASSING:
                self._file.put([(keys[request], answer)])

        backend.answer(missing, done)
        for request in missing:
            if request not in answers:
                raise AssertionError(f"{service.op}: a request was left without an answer")


@contextlib.contextmanager
def oracle_for(policy: Policy, answers: Path, device: str = "auto") -> Iterator[ModelOracle | None]:
    """An oracle as long as it is needed; None where no op of the policy asks a model.

    Args:
        policy: Its `text` branch is looked at.
        answers: File of answers kept between runs; made where a model is asked.
        device: `auto`, `cpu` or `cuda`.
    """
    if not asks(policy.text):
        yield None
        return
    with ModelOracle(answers, device) as oracle:
        yield oracle
        logger.info(
            "asked models: %s", ", ".join(f"{name} {count}" for name, count in oracle.spent().items())
        )


def backend_of(service: Service, device: str) -> Backend:
    """What stands behind a service; torch is imported only where a model runs here.

    Raises:
        DependencyError: a package or the model is missing; names the op.
    """
    try:
        return _backend(service, device)
    except ImportError as error:
        raise DependencyError(
            f"{service.op}: {error}. Install the 'train' extra, or leave this op out of the policy"
        ) from error


def _backend(service: Service, device: str) -> Backend:
    if isinstance(service, MaskedService):
        from recsys.generate.masked import MaskedModel

        return MaskedModel(service, device)
    if isinstance(service, TranslationService):
        from recsys.generate.translate import Translator

        return Translator(service, device)
    from recsys.generate.chat import ChatRewriter

    return ChatRewriter(service)
