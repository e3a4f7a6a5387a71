"""Fixed rows on which every op is shown at work, and when to use which: what `docs/ops.md` is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from recsys.augment.asking import Answer, Answers, ChatService, MaskedService, Request
from recsys.augment.constraints import Protection
from recsys.augment.example import Event, Example, HistoryExample, Item, TextExample

_HOUR = 3600


class When(NamedTuple):
    """For whom an op is, and for whom it is not."""

    use: str
    leave: str


WHEN: dict[str, When] = {
    "attribute_backfill": When(
        "Titles of few words where the catalogue knows brand, category or tags.",
        "Titles that say it all: the text grows and means the same.",
    ),
    "back_translation": When(
        "Descriptions in sentences, with a pair of translation models at hand.",
        "Titles made of names and numbers: they come back as they went, or wrong and are refused.",
    ),
    "backward_extension": When(
        "Users with one to five events, where what comes before what is learnable from the others.",
        "Longer histories, and shops where the order of events says little.",
    ),
    "borrow": When(
        "Users with few events among many who are alike.",
        "Small shops: with few users nobody is really alike.",
    ),
    "chinese_noise": When(
        "Encoders that must read queries as people type them.", "Item titles: it blurs what was clear."
    ),
    "clause_shuffle": When(
        "Descriptions of several sentences or of listed features.",
        "Titles of one clause: nothing to shuffle.",
    ),
    "compose": When("Ops that shall follow one another.", "One op alone."),
    "counterfactual": When(
        "Histories with events that have nothing to do with the target.",
        "Sparse logs without co-visitation around the targets: there it leaves every row alone.",
    ),
    "crop": When(
        "Users met at any length of history: it makes shorter ones of longer ones.",
        "Short histories, of which nothing would be left.",
    ),
    "cross_domain_borrow": When(
        "The same users in a second shop or channel, whose items can be put in terms of this catalogue.",
        "Datasets of one domain: there is nobody to ask.",
    ),
    "dropout_views": When(
        "Few training rows, as a regulariser that leaves the data alone.",
        "Plenty of rows: each step costs more and says the same.",
    ),
    "fgm": When(
        "Towers that overfit: a steady loss on small moves of the item vectors.",
        "Training time that counts: every step is passed twice.",
    ),
    "gaussian_noise": When(
        "The cheapest regulariser of vectors, to be tried first.", "Text vectors that are noisy already."
    ),
    "insert": When(
        'Short histories with known neighbours: what a denser log would show. `by = "text"` for items that '
        "few users had.",
        "Long histories, where another related item changes nothing.",
    ),
    "item_dropout": When(
        "The first op to try: users who were seen less often look like this.",
        "Histories of two or three events, where each one counts.",
    ),
    "keyboard_noise": When(
        "Encoders that must read English queries as people type them.",
        "Item titles: it blurs what was clear.",
    ),
    "llm_rewrite": When(
        "A few thousand thin texts, an endpoint, a budget, and somebody who reads samples.",
        "Whole large catalogues: it is paid by the token, and a language model makes things up.",
    ),
    "mask": When(
        "Training that should not rely on any single event, with the lags of the others kept.",
        "Where the place in the history says little: `item_dropout` does the same then.",
    ),
    "masked_lm": When(
        "Texts of everyday words, with a masked language model of their language.",
        "Names, specifications and jargon, of which such a model knows nothing.",
    ),
    "masked_lm_insertion": When(
        "Thin texts of everyday words, with a masked language model of their language.",
        "Texts that are long enough: inserted words are plausible, not informative.",
    ),
    "mined_synonym": When(
        "Catalogues of free text, after a look at what was mined.",
        "Titles that follow a template: styles and kinds stand in each other's place as well.",
    ),
    "mixup": When(
        "Few training rows: targets between those of two users.", "Baskets of many targets, which mix anyway."
    ),
    "one_of": When(
        "Alternatives of which a row shall get one, by weight.", "Ops that belong together: use `compose`."
    ),
    "pgd": When(
        "What `fgm` is for, where one step is not enough.", "Anything else: it costs a pass per step."
    ),
    "reorder": When(
        "Baskets and sessions, whose inner order is chance.", "Events far apart, whose order is what counts."
    ),
    "social_borrow": When(
        "Datasets with friends, for users with few events or none.",
        "Datasets without relations: nobody to ask.",
    ),
    "some_of": When(
        "Several gentle ops of which a row shall get a few.", "Strong ops, whose changes would add up."
    ),
    "sub_history": When(
        "Users met at any moment: a history that ends earlier keeps its shape.",
        "Targets that depend on the newest event: the slice may end before it.",
    ),
    "substitute": When(
        'Histories among items that stand in for one another. `by = "text"` for items that few users had.',
        "Items that are what they are: a replaced event is a false one.",
    ),
    "synonym": When(
        "Words of the trade that an expert has listed as the same.",
        "Lists from elsewhere: they know other trades.",
    ),
    "term_expansion": When(
        "Thin texts of items that are bought often enough to have neighbours.",
        "New items, and texts that are long already.",
    ),
    "typo": When(
        "Encoders that must read English queries as people type them.",
        "Item titles: it blurs what was clear.",
    ),
    "word_dropout": When(
        "Titles of six words and more, for an encoder that is being fine-tuned.",
        "Short titles, of which every word counts.",
    ),
    "word_insertion": When(
        "Longer texts, with words from an expert or from a checked list of synonyms.",
        "Mined synonyms that nobody has looked at.",
    ),
    "word_swap": When(
        "Titles that list features in no order.", "Sentences: swapped words are wrong English."
    ),
    "wordnet_synonym": When(
        "English descriptions in common words.", "Titles of names and jargon, and any other language."
    ),
}
"""For every op, composites and ops on representations among them."""

SETTINGS: dict[str, dict[str, Any]] = {
    "back_translation": {"to": "en-fr", "back": "fr-en"},
    "chinese_noise": {"count_range": [2, 2]},
    "clause_shuffle": {"unit": "clause"},
    "compose": {"ops": [{"op": "item_dropout", "rate_range": [0.2, 0.2]}, {"op": "substitute"}]},
    "insert": {"by": "both"},
    "llm_rewrite": {"base_url": "http://localhost:8000/v1", "model": "any"},
    "masked_lm": {"model": "bert"},
    "masked_lm_insertion": {"model": "bert"},
    "one_of": {"ops": [{"op": "crop"}, {"op": "mask"}], "weights": [1.0, 3.0]},
    "substitute": {"by": "both"},
    "some_of": {"ops": [{"op": "crop"}, {"op": "mask"}, {"op": "reorder"}], "count_range": [2, 2]},
    "synonym": {"groups": [["cosy", "snug"], ["soft", "smooth"], ["宽松", "肥大"]]},
    "term_expansion": {"max_words": 20},
    "word_insertion": {"words": ["classic", "经典"]},
    "word_swap": {"count_range": [1, 1]},
}
"""What the examples are run with, where the defaults would not do."""

MODELS = frozenset({"back_translation", "llm_rewrite", "masked_lm", "masked_lm_insertion"})
"""Ops whose examples hold a made-up answer in the place of a model's."""

NO_EXAMPLE: Mapping[str, str] = {
    "wordnet_synonym": "WordNet's files are not part of this project.",
}
"""Ops that cannot be shown, and why."""


class _Told(Answers):
    """Answers that are written here."""

    __slots__ = ()

    def ask(self, request: Request) -> Answer:
        """A plausible answer, the same each time."""
        text = str(request.content[0])
        chinese = not text.isascii()
        if isinstance(request.service, MaskedService):
            words = (("优质", -1.0), ("舒适", -1.2)) if chinese else (("comfy", -1.0), ("lovely", -1.2))
            return Answer(tuple(words for _ in request.content[1]))
        if isinstance(request.service, ChatService):
            return Answer(f"{text}，柔软亲肤" if chinese else f"{text}, warm for cold evenings")
        return Answer(text.replace("with long sleeves", "with sleeves that are long"))


def text_rows(thin: bool = False) -> tuple[TextExample, ...]:
    """One English and one Chinese item, or the same with titles that say little."""
    english = TextExample(
        "item:hoodie",
        "Acme soft cosy fleece hoodie for women, with long sleeves, two front pockets, in blue",
        {
            "brand": "Acme", "category": "Clothing, Hoodies", "tags": "winter, gift", "price_band": "middle",
            "terms": "jacket, sweatpants, beanie",
        },
        synonyms={"soft": ("gentle", "smooth"), "women": ("ladies",)},
        answers=_Told(),
    )  # fmt: skip
    chinese = TextExample(
        "item:tee",
        "红色纯棉短袖上衣，夏季宽松，适合运动休闲，XL码",
        {
            "category": "服饰, 上衣",
            "tags": "夏季新款, 送礼",
            "price_band": "中等价位",
            "terms": "运动短裤, 棒球帽",
        },
        synonyms={"宽松": ("肥大",)},
        answers=_Told(),
    )
    if thin:
        english, chinese = english._replace(text="Acme hoodie"), chinese._replace(text="红色上衣")
    return tuple(Protection().prepare(row) for row in (english, chinese))


def history_row() -> HistoryExample:
    """One user of a shop for the home; the events are some hours apart."""
    items = ("kettle", "teapot", "mug", "tray", "lamp", "candle", "vase")
    near: dict[Item, tuple[Item, ...]] = {
        "kettle": ("toaster", "teapot"), "teapot": ("infuser", "mug"), "mug": ("saucer", "spoon"),
        "tray": ("saucer", "coaster"), "lamp": ("bulb", "candle"), "candle": ("holder", "lamp"),
        "vase": ("bouquet", "clock"), "clock": ("vase", "frame"),
    }  # fmt: skip
    lent = (Event("cushion", "purchase", 9 * _HOUR), Event("throw", "purchase", 15 * _HOUR))
    return HistoryExample(
        "user:ann@1",
        items,
        ("purchase",) * len(items),
        tuple(6 * _HOUR * place for place in range(1, len(items) + 1)),
        ("clock",),
        near,
        {"kettle": (("cup", 0.5),), "cup": (("spoon", 0.4),)},
        {"similar": lent, "friends": lent[:1], "elsewhere": lent[1:]},
        {"kettle": ("water heater",), "mug": ("cup",), "lamp": ("lantern",), "vase": ("jug",)},
    )


def short_history_row() -> HistoryExample:
    """The same user some events earlier, for ops that leave longer histories alone."""
    row = history_row()
    return row._replace(
        history=row.history[:2], event_types=row.event_types[:2], timestamps=row.timestamps[:2]
    )


def rows_for(name: str, kind: str) -> tuple[Example, ...]:
    """The rows on which an op is shown."""
    if kind == "text":
        return text_rows(thin=name == "attribute_backfill")
    return (short_history_row() if name == "backward_extension" else history_row(),)
