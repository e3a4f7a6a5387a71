"""The safety gate: personal data, claims, banned words, instructions and scripts, in what was added alone."""

from __future__ import annotations

import functools
import re
import unicodedata

from pydantic import Field

from recsys.augment.example import TextExample
from recsys.augment.gates.gate import Evidence
from recsys.augment.gates.text import TextGate, added_text

_PERSONAL = re.compile(
    r"[\w.+-]+@[\w-]+\.[\w.]+"  # mail
    r"|(?<!\d)(?:\+?\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?)?\d{3,4}[ .-]\d{3,4}[ .-]?\d{0,4}(?!\d)"  # telephone
    r"|(?<!\d)1[3-9]\d{9}(?!\d)"  # Chinese mobile
    r"|(?<!\d)\d{17}[\dXx](?!\d)"  # Chinese identity card
    r"|(?<!\d)(?:\d[ -]?){13,16}(?!\d)"  # payment card
    r"|(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)"  # social security
    r"|https?://\S+|www\.\S+|\b(?:\d{1,3}\.){3}\d{1,3}\b"
)
_CLAIMS = re.compile(
    r"\b(?:cures?|cured|heals?|prevents? (?:disease|cancer|covid)|treats?|clinically|medically|fda|"
    r"ce.certified|doctor.recommended|dermatologist|guaranteed?|risk.free|miracle|"
    r"100 ?% (?:safe|effective|natural)|"
    r"scientifically proven|proven|best.seller|no\.? ?1|number one|cheapest|lowest price|lose weight|"
    r"organic|hypoallergenic|non.?toxic|waterproof|fireproof|bulletproof|childproof|antibacterial|"
    r"carcinogen|official(?:ly)?|authentic|genuine|certified|award.winning)\b"
    r"|治疗|治愈|根治|疗效|抗癌|防癌|国家级|最高级|最佳|第一品牌|全网最低|绝对|无副作用|包治|药到病除|永久|纯天然|有机|正品|官方",
    re.IGNORECASE,
)
"""Medical, legal and superlative claims: true or not, an augmentation may not be the first to make them."""
_INSTRUCTIONS = re.compile(
    r"ignore (?:all |any |the )*(?:previous|prior|above|earlier)|disregard (?:all|any|the|previous)|"
    r"\b(?:system|assistant|user) ?:|system prompt|you are (?:now )?(?:an?|the) |"
    r"as an? (?:ai|language model)|i (?:cannot|can't|am unable to) |i'm sorry|"
    r"here (?:is|are) (?:the|your|a) (?:rewritten|text|description)|"
    r"\b(?:click|tap) here\b|<\s*/?\s*(?:script|iframe|img|a)\b|```|\{\{|<\|[a-z_]+\|>|\[/?inst\]|"
    r"忽略(?:以上|之前|前面)|无视(?:以上|之前)|你是一个|作为(?:一个)?(?:人工智能|语言模型)|系统提示|点击这里|抱歉，?我",
    re.IGNORECASE,
)
"""Words to a model or to a reader instead of words about an item."""


class Safety(TextGate):
    """Adds no personal data, claim, banned word, instruction or foreign script."""

    name = "safety"

    banned: tuple[str, ...] = ()
    """Words or phrases that nothing may add, besides the built-in claims; case does not matter."""
    allowed_claims: tuple[str, ...] = ()
    """Built-in claims that this shop may make, such as "organic"."""
    scripts: bool = Field(True)
    """Whether letters of a script that neither the text nor its attributes use are refused."""

    @functools.cached_property
    def _banned(self) -> re.Pattern[str] | None:
        if not self.banned:
            return None
        words = [re.escape(word) for word in self.banned]
        edged = [rf"\b{word}\b" if word.isascii() else word for word in words]
        return re.compile("|".join(edged), re.IGNORECASE)

    def weigh(
        self, original: TextExample, candidate: TextExample, evidence: Evidence
    ) -> tuple[float, str | None]:
        """1 or 0: the first thing wrong with what was added."""
        added = added_text(original, candidate)
        if not added.strip():
            return 1.0, None
        reason = self._fault(added, original, candidate.text)
        return (1.0, None) if reason is None else (0.0, reason)

    def _fault(self, added: str, original: TextExample, text: str) -> str | None:
        # Patterns run over the whole candidate, so that a phrase with one old word in it is still found; only
        # what the original and its row did not say counts.
        source = " ".join((original.text, *original.fields.values()))
        if _new(_PERSONAL, text, source):
            return "personal_data"
        if _new(_INSTRUCTIONS, text, source):
            return "instruction"
        claims = _new(_CLAIMS, text, source) - {claim.lower() for claim in self.allowed_claims}
        if claims:
            return "banned_claim"
        if self._banned is not None and _new(self._banned, text, source):
            return "banned_word"
        if self.scripts and scripts_of(added) - scripts_of(source) - {"LATIN"}:
            return "foreign_script"
        return None


def scripts_of(text: str) -> set[str]:
    """The scripts of a text's letters, as their Unicode names begin: LATIN, CJK, CYRILLIC and so on."""
    letters = {char for char in text if char.isalpha()}
    return {unicodedata.name(char, "UNKNOWN").partition(" ")[0] for char in letters}


def _new(pattern: re.Pattern[str], text: str, source: str) -> set[str]:
    """What a pattern finds in a text and not in its source, in lower case."""
    found = {match.group().lower() for match in pattern.finditer(text)}
    return {match for match in found if match not in source.lower()} if found else found
