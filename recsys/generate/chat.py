"""Texts from a chat model behind an OpenAI-compatible endpoint: concurrent, within a budget, checked."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

from recsys.augment.asking import Answer, ChatService, Request
from recsys.generate.budget import Budget, Cost
from recsys.generate.calling import Caller, Refused
from recsys.generate.oracle import Done
from recsys.generate.prompt import MOST_CHARACTERS, VERSION, body_of, most_output, texts_in

logger = logging.getLogger(__name__)

_OVERHEAD = 64
"""Tokens that an endpoint's chat template puts around a prompt, at most."""


class ChatRewriter:
    """Asks a chat model for new texts; a request's content is (text, language, what to keep, attributes).

    Every call's highest price is reserved first, a token per byte sent: with the budget used up, what is left
    is refused as `budget` and no call is made. Afterwards counts what the endpoint says.

    Args:
        service: The endpoint, its limits and prices.
        caller: Makes the calls; the default goes over the network with the first question.
    """

    def __init__(self, service: ChatService, caller: Caller | None = None) -> None:
        self._service, self._caller = service, caller
        self._structured = service.structured
        self._budget = Budget(
            service.prompt_price, service.output_price, service.max_tokens_budget, service.max_cost
        )

    @property
    def identity(self) -> str:
        """Endpoint, model, prompt and sampling."""
        s = self._service
        parts = (s.base_url, s.model, s.mode, s.temperature, s.max_output_tokens, s.items_per_call)
        return f"chat/{VERSION}/{parts}"

    def spent(self) -> Mapping[str, int]:
        """Calls, retries, answers that could not be used, tokens, and money in millionths."""
        calls = self._caller.counts if self._caller is not None else Counter[str]()
        return {
            **calls,
            "prompt_tokens": self._budget.prompt_tokens,
            "output_tokens": self._budget.output_tokens,
            "cost_millionths": round(1e6 * self._budget.cost),
        }

    def close(self) -> None:
        """Close the connections."""
        if self._caller is not None:
            self._caller.close()

    def answer(self, requests: Sequence[Request], done: Done) -> None:
        """Ask for all of them, at most `concurrency` calls at one time.

        Raises:
            ConfigError: no key, or the endpoint does not know the key, the model or the path.
        """
        if self._caller is None:
            self._caller = Caller(self._service)
        self._caller.close_circuit()
        fit = [request for request in requests if len(request.content[0]) <= MOST_CHARACTERS]
        for request in requests:
            if len(request.content[0]) > MOST_CHARACTERS:
                done(request, Answer(None, "too_long"))
        size = self._service.items_per_call
        groups = [fit[start : start + size] for start in range(0, len(fit), size)]
        with ThreadPoolExecutor(self._service.concurrency, thread_name_prefix="chat") as pool:
            running: dict[Future[list[Answer]], list[Request]] = {
                pool.submit(self._group, self._caller, group): group for group in groups
            }
            try:
                for number, future in enumerate(as_completed(running), 1):
                    for request, answer in zip(running[future], future.result(), strict=True):
                        done(request, answer)
                    if number % 100 == 0:
                        logger.info("%s: %d of %d calls", self._service.op, number, len(groups))
            except BaseException:  # an interruption too: threads awaiting their next try would hold it up
                self._caller.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _group(self, caller: Caller, group: list[Request]) -> list[Answer]:
        """Answers of one prompt; an answer that cannot be used is asked for once more."""
        for attempt in range(2):
            try:
                reply = self._call(caller, group, attempt)
            except Refused as error:
                return [Answer(None, error.reason)] * len(group)
            texts = texts_in(reply, len(group))
            if texts is not None:
                return [Answer(text) for text in texts]
            caller.count("bad_outputs")
        return [Answer(None, "bad_output")] * len(group)

    def _call(self, caller: Caller, group: list[Request], attempt: int) -> Any:
        """One paid call; without the schema where the endpoint turns that down."""
        structured = self._structured
        try:
            return self._paid(caller, group, structured, attempt)
        except Refused as error:
            if not structured or error.status not in (400, 422):
                raise
        reply = self._paid(caller, group, False, attempt)
        if self._structured:
            self._structured = False
            logger.warning("%s: the endpoint takes no JSON schema; asking without", self._service.op)
        return reply

    def _paid(self, caller: Caller, group: list[Request], structured: bool, attempt: int) -> Any:
        body = body_of(self._service, group, structured, attempt)
        most = Cost(len(body) + _OVERHEAD, most_output(self._service, len(group)))
        if not self._budget.reserve(most):
            raise Refused("budget")
        actual = Cost(0, 0)
        try:
            reply = caller.post(body, group[0].seed, lambda: self._budget.charge(most))
            actual = _usage(reply, most)
            return reply
        except Refused as error:
            if error.maybe_billed:
                actual = most
            raise
        finally:
            self._budget.settle(most, actual)


def _usage(reply: Any, most: Cost) -> Cost:
    """What the endpoint says a call took; the most it can have taken where it does not say."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    if not isinstance(usage, dict):
        return most
    prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(output, int) or prompt < 0 or output < 0:
        return most
    return Cost(prompt, output)
