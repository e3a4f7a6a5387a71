"""Answers by rule, in the place of models: what ops do with answers is tested apart from who gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recsys.augment.asking import Answer, Answers, ChatService, MaskedService, Request

WORDS = {
    0: (("the", -0.1), ("red", -0.5), ("12", -0.6), ("lovely", -1.0), ("cosy", -1.5), ("优质", -1.7)),
    2: (("不含", -0.2), ("红色", -0.5), ("舒适", -1.0), ("优质", -1.2), ("ok", -1.3), ("的", -2.0)),
}  # fmt: skip


def polite(request: Request) -> Answer:
    """Words that suit, and whole texts that keep the old one and add to it."""
    if isinstance(request.service, MaskedService):
        return Answer(tuple(WORDS.get(size, ()) for size in request.content[1]))
    text = request.content[0]
    chinese = any("\u4e00" <= char <= "\u9fff" for char in text)
    if isinstance(request.service, ChatService):
        return Answer(f"{text}，实用好看" if chinese else f"{text} - handy every day")
    return Answer(f"精选{text}" if chinese else f"presenting {text}")


class Scripted(Answers):
    """A table that knows every answer."""

    __slots__ = ("rule",)

    def __init__(self, rule: Callable[[Request], Answer] = polite) -> None:
        super().__init__()
        self.rule = rule

    def ask(self, request: Request) -> Answer:
        return self.rule(request)


class ScriptedOracle:
    """Answers by rule and remembers what it was asked."""

    def __init__(self, rule: Callable[[Request], Answer] = polite) -> None:
        self.rule, self.batches = rule, []

    def answer(self, requests: Sequence[Request]) -> Mapping[Request, Answer]:
        self.batches.append(list(requests))
        return {request: self.rule(request) for request in requests}

    def spent(self) -> Mapping[str, Any]:
        return {"oracle:requests": sum(map(len, self.batches))}
