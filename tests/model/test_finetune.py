"""Fine-tuning: weights move, the cut gives the plain gradient, the gate holds, and it resumes bit for bit."""

import re
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.finetune import finetune_encoder
from recsys.model.batching import drawn_candidates, target_pairs, trainable, uniform_candidates
from recsys.model.encoder import TextEncoder
from recsys.model.gate import Judged, judge, keep, weights_moved
from recsys.model.layer_cache import LayerCache
from recsys.model.step import batch_loss
from recsys.model.whitening import Whitening
from recsys.model.wordings import Wordings
from recsys.train import fit_towers
from recsys.tuning import Tuning

WORDS = ["red", "blue", "green", "tea", "cup", "mug", "bag", "hat", "lamp", "soap", "oil"]


class Killed(Exception):
    pass


@pytest.fixture
def world(tiny_bert, texts, config, shop, tmp_path):
    shape = config.encoder.model_copy(update={"name": str(tiny_bert)})
    encoder = TextEncoder.load(shape, "cpu", "fp32")
    raw = encoder.encode(texts)
    whitening = Whitening.fit(raw, 12)
    fit, held_out = shop(150, 24, 0), shop(60, 24, 1, "held_out")
    counts = np.bincount(fit.target_rows, minlength=24)
    fitted = fit_towers(fit, whitening.apply(raw), counts, config, tmp_path / "towers", epochs=2)
    return encoder, texts, fit, fitted, whitening, held_out


def tune(world, config, folder, **options):
    *parts, held_out = world
    return finetune_encoder(*parts, config, folder, validation=held_out, **options)


def weights(encoder):
    return {name: value.numpy().tobytes() for name, value in encoder.model.state_dict().items()}


def tuned(world, config, folder, on_step=None):
    encoder, texts, contexts, fitted, whitening, _ = world
    tuning = Tuning(encoder, texts, contexts, fitted, whitening, config, folder)
    tuning.run(on_step)
    return tuning


def test_top_layers_move_and_nothing_else(world, config, tmp_path):
    before = weights(world[0])
    result = tune(world, config, tmp_path)
    assert weights(world[0]) == before  # the caller's model is as it was
    moved = result.report["weights_moved"]
    assert moved["layer_0"] == 0
    assert moved["layer_1"] > 1e-4
    assert moved["layer_2"] > 1e-4
    assert result.report["whitening"] in ("kept", "refitted")
    assert len(result.report["losses"]) == config.finetune.steps
    assert set(result.report["before"]) == {"all", "warm", "cold"}
    same = result.encoder is world[0]
    assert same != result.kept
    np.testing.assert_allclose(
        result.whitening.apply(result.encoder.encode(world[1])), result.text_vectors, atol=1e-5
    )


def test_the_cut_gives_the_gradient_of_the_plain_path(world, config, tmp_path):
    """One backward through cached states and leaves equals autograd through texts, towers and loss."""
    encoder, texts, contexts, fitted, whitening, _ = world
    tuning = Tuning(encoder, texts, contexts, fitted, whitening, config, tmp_path)
    taken = {}
    tuning.optimizer.step = lambda: taken.update(
        cut=[parameter.grad.clone() for parameter in tuning.learning]
    )
    encode, backward = tuning._encode, tuning._backward

    def plain_encode(chosen):
        vectors, graphs = encode(chosen)
        whole = torch.zeros_like(vectors)
        for rows, part in graphs:
            whole = whole.index_copy(0, rows, part)
        taken["whole"] = whole
        return vectors, graphs

    def plain_backward(graphs, gradient):
        taken["plain"] = torch.autograd.grad(
            (taken["whole"] * gradient.detach()).sum(), tuning.learning, retain_graph=True
        )
        backward(graphs, gradient)

    tuning._encode, tuning._backward = plain_encode, plain_backward
    taken["clip"] = torch.nn.utils.clip_grad_norm_
    tuning.config = config.model_copy(update={"train": config.train.model_copy(update={"clip": 1e9})})
    tuning._step(0)
    for cut, plain in zip(taken["cut"], taken["plain"], strict=True):
        torch.testing.assert_close(cut, plain, atol=1e-6, rtol=1e-4)
    assert max(float(g.abs().max()) for g in taken["cut"]) > 1e-6


def step_of(world, config, folder, **settings):
    """The gradients of one step, its loss, and how many bytes its graphs hold at most."""
    encoder, texts, contexts, fitted, whitening, _ = world
    config = config.model_copy(
        update={
            "finetune": config.finetune.model_copy(update=settings),
            "train": config.train.model_copy(update={"clip": 1e9}),
        }
    )
    tuning = Tuning(encoder, texts, contexts, fitted, whitening, config, folder)
    held, most = {}, [0]

    def pack(tensor):
        kept = tensor.detach()
        held[id(kept)] = kept.numel() * kept.element_size()
        weakref.finalize(kept, held.pop, id(kept), None)
        most[0] = max(most[0], sum(held.values()))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        loss = tuning._step(0)
    parameters = [*tuning.learning, *(p for p in tuning.model.parameters() if p.grad is not None)]
    return [parameter.grad for parameter in parameters], loss, most[0], tuning


@pytest.mark.parametrize("candidates", ["drawn", "all"])
def test_gradient_caching_is_the_plain_path_in_less_memory(world, config, tmp_path, monkeypatch, candidates):
    monkeypatch.setattr("recsys.tuning.CACHED_CONTEXTS", 16)
    short = config.model_copy(update={"encoder": config.encoder.model_copy(update={"batch_tokens": 32})})
    world = (TextEncoder.load(short.encoder.model_copy(update={"name": world[0].config.name}), "cpu", "fp32"),
             *world[1:])  # fmt: skip
    settings = {"candidates": candidates, "items_per_step": 18, "contexts_per_step": 100}
    plain, loss, memory, _ = step_of(world, short, tmp_path / "a", **settings)
    cached, same, less, tuning = step_of(world, short, tmp_path / "b", **settings, gradient_cache=True)
    assert same == pytest.approx(loss, rel=1e-5)
    assert len(cached) == len(plain)
    for a, b in zip(cached, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
    assert max(float(g.abs().max()) for g in plain[: len(tuning.learning)]) > 1e-6
    assert less < 0.6 * memory
    # What a smaller step would give instead is something else: the cache is not just smaller batches.
    smaller, *_ = step_of(world, short, tmp_path / "c", **{**settings, "contexts_per_step": 16})
    assert any(not torch.allclose(a, b, atol=1e-5, rtol=1e-2) for a, b in zip(smaller, plain, strict=True))


def test_a_cache_that_drops_the_other_parts_candidates_is_found_out(world, config, tmp_path, monkeypatch):
    """The negative case: each part against its own targets alone has another gradient."""
    monkeypatch.setattr("recsys.tuning.CACHED_CONTEXTS", 16)
    settings = {"items_per_step": 18, "contexts_per_step": 100, "gradient_cache": True}
    right, *_ = step_of(world, config, tmp_path / "a", **settings)

    def by_part(model, text, contexts, positions, pairs, candidates, *rest):
        own = drawn_candidates(np.unique(pairs.items), len(candidates.rows))
        return batch_loss(model, text, contexts, positions, pairs, own, *rest)

    monkeypatch.setattr("recsys.tuning.batch_loss", by_part)
    wrong, *_ = step_of(world, config, tmp_path / "b", **settings)
    assert any(not torch.allclose(a, b, atol=1e-5, rtol=1e-2) for a, b in zip(wrong, right, strict=True))


def gradient_of_texts(world, config, folder, **settings):
    """What the loss of one step says of each text's vector, by its place."""
    encoder, texts, contexts, fitted, whitening, _ = world
    settings |= {"contexts_per_step": 10_000, "drift_weight": 0.0}
    config = config.model_copy(update={"finetune": config.finetune.model_copy(update=settings)})
    tuning = Tuning(encoder, texts, contexts, fitted, whitening, config, folder)
    taken = []
    tuning._backward = lambda graphs, gradient: taken.append(gradient.clone())
    tuning._step(0)
    return dict(zip(tuning.draws.texts_of(0).tolist(), taken[0], strict=True))


def test_with_everybody_a_candidate_a_drawn_text_has_the_gradient_of_the_whole_softmax(
    world, config, tmp_path
):
    whole = gradient_of_texts(world, config, tmp_path / "a", candidates="all", items_per_step=1000)
    some = gradient_of_texts(world, config, tmp_path / "b", candidates="all", items_per_step=8)
    drawn = gradient_of_texts(world, config, tmp_path / "c", candidates="drawn", items_per_step=8)
    assert len(whole) > len(some) == 8
    for place, gradient in some.items():
        torch.testing.assert_close(gradient, whole[place], atol=1e-5, rtol=1e-3)
    assert any(not torch.allclose(drawn[place], whole[place], rtol=0.1) for place in drawn)


def test_cached_states_give_the_vectors_of_the_encoder(world, config):
    encoder, texts, *_, whitening, _ = world
    distinct = sorted({text for text in texts if text.strip()})
    expected = whitening.apply(encoder.encode(distinct))
    for gib in (1.0, 0.0):  # cached, and run again each time
        cache = LayerCache(encoder, distinct, whitening, 2, gib)
        places = np.arange(len(distinct))[::-1].copy()
        found = np.zeros_like(expected)
        with torch.no_grad():
            for rows, part in cache.vectors(places):
                found[places[rows]] = part.numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("step", [1, 3, 4])
def test_killed_at_a_step_it_resumes_bit_for_bit(world, config, tmp_path, step):
    def kill(done):
        if done == step:
            raise Killed

    whole = tuned(world, config, tmp_path / "whole")
    with pytest.raises(Killed):
        tuned(world, config, tmp_path / "killed", kill)
    steps = []
    resumed = tuned(world, config, tmp_path / "killed", steps.append)
    assert steps[0] == step // 2 * 2 + 1
    assert weights(whole.encoder) == weights(resumed.encoder)
    assert whole.losses == resumed.losses
    assert torch.equal(whole.text, resumed.text)


def test_cold_items_keep_their_vectors_until_the_end(world, config, tmp_path):
    tuning = tuned(world, config, tmp_path)
    torch.testing.assert_close(tuning.text[20:], tuning.frozen[20:])
    assert not torch.allclose(tuning.text[:20], tuning.frozen[:20])


@pytest.mark.parametrize("against", ["drawn", "all"])
def test_what_was_drawn_is_not_wanted_more_often(tiny_bert, config, shop, tmp_path, against):
    """Few items of many per step and large steps: texts must stay apart, and the whole catalogue ranked."""
    settings = {"steps": 60, "max_passes": 1000.0, "items_per_step": 8, "contexts_per_step": 64}
    settings |= {"candidates": against, "residual_dropout": 0.3}  # the bounds below were measured so
    tune_less = config.finetune.model_copy(update=settings)
    name = config.encoder.model_copy(update={"name": str(tiny_bert)})
    plain = config.model.model_copy(update={"item_bias": False})  # and without a bias
    strong = config.model_copy(update={"finetune": tune_less, "encoder": name, "model": plain})
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, 3)) + f" {i % 30}" for i in range(120)]
    encoder = TextEncoder.load(name, "cpu", "fp32")
    raw, rows = encoder.encode(texts), shop(500, 120, 0)
    whitening, counts = Whitening.fit(raw, 12), np.bincount(rows.target_rows, minlength=120)
    fitted = fit_towers(rows, whitening.apply(raw), counts, strong, tmp_path / "t", epochs=8)
    tuning = Tuning(encoder, texts, rows, fitted, whitening, strong, tmp_path / "f")
    everyone = trainable(rows)
    pairs = target_pairs(rows, everyone)
    candidates = uniform_candidates(tuning.seen, pairs.items, 10**6, rng)

    def loss():
        text = torch.from_numpy(whitening.apply(tuning.encoder.encode(texts)))
        with torch.no_grad():
            summed = batch_loss(tuning.model, text, rows, everyone, pairs, candidates, None, 6)
        return float(summed) / len(pairs.items)

    def likeness():
        text = whitening.apply(tuning.encoder.encode(texts))
        return float((text @ text.T).mean())

    before = loss()
    tuning.run(None)
    assert loss() < before + 1.0  # with everybody a candidate: + 1.9
    assert likeness() < 0.6  # and all texts in one place: 0.91


def test_drawn_candidates_estimate_the_full_softmax():
    scores = np.random.default_rng(0).normal(size=200)
    full = np.exp(np.delete(scores, 7)).sum()
    estimates = []
    for seed in range(400):
        others = np.random.default_rng(seed).choice(np.delete(np.arange(200), 7), 19, replace=False)
        drawn = drawn_candidates(np.sort(np.append(others, 7)), 200)
        told = scores[drawn.rows] + drawn.log_corrections
        estimates.append(np.exp(told[drawn.rows != 7]).sum())
    assert np.mean(estimates) == pytest.approx(full, rel=0.03)


def test_residuals_are_dropped_as_finetuning_asks_and_not_as_the_towers_do(world, config, tmp_path):
    """With every residual gone the first loss is that of the texts alone, whatever the towers learned."""

    def first_loss(dropped, folder):
        settings = config.finetune.model_copy(update={"residual_dropout": dropped, "steps": 1})
        return tuned(world, config.model_copy(update={"finetune": settings}), tmp_path / folder).losses[0]

    assert first_loss(0.0, "kept") < first_loss(0.999, "gone")
    other = config.model_copy(update={"train": config.train.model_copy(update={"residual_dropout": 0.9})})
    settings = config.finetune.model_copy(update={"residual_dropout": 0.0, "steps": 1})
    same = tuned(world, other.model_copy(update={"finetune": settings}), tmp_path / "other").losses[0]
    assert same == first_loss(0.0, "again")


def test_drift_is_held_back(world, config, tmp_path):
    def moved(weight):
        strong = config.finetune.model_copy(update={"drift_weight": weight})
        tuning = tuned(world, config.model_copy(update={"finetune": strong}), tmp_path / str(weight))
        return float((tuning.text - tuning.frozen).norm())

    assert moved(100.0) < 0.8 * moved(0.0)


def ranked(warm, cold, num_cold=400, spread=0.0):
    """What towers might rank: 400 users with figures near those given, `num_cold` with a cold target."""
    noise = np.random.default_rng(0).normal(0, spread, (400, 2))
    values = {name: np.full((400, 2), value) + noise for name, value in (("warm", warm), ("cold", cold))}
    counts = {"warm": np.ones(400, bool), "cold": np.arange(400) < num_cold}
    return Judged(values, counts, np.arange(400))


@pytest.mark.parametrize(
    ("warm", "cold", "num_cold", "spread", "kept", "why"),
    [
        (0.10, 0.10, 400, 0.0, False, "+0.00% together, under 1%"),  # no better: the one as published
        (0.101, 0.10, 400, 0.0, False, "+0.50% together, under 1%"),
        (0.10, 0.20, 400, 0.0, True, "cold items +100.00%"),
        (0.20, 0.09, 400, 0.0, False, "cold items lose beyond chance"),
        (0.09, 0.20, 400, 0.0, False, "warm items lose beyond chance"),
        (0.099, 0.11, 400, 0.05, True, "warm items -"),  # a loss that may be none, beside a gain
        (0.11, 0.099, 400, 0.05, True, "cold items -"),
        (0.099, 0.11, 20, 0.05, False, "% together, under 1%: warm items -"),  # few new items weigh little
        (0.11, 0.0, 0, 0.0, True, "warm items +10.00%"),
    ],
)
def test_the_gate_keeps_what_gains_and_harms_neither_beyond_chance(warm, cold, num_cold, spread, kept, why):
    verdict = keep(ranked(0.1, 0.1, num_cold), ranked(warm, cold, num_cold, spread), seed=0)
    assert verdict[0] == kept
    assert why in verdict[1]


def test_the_gate_says_how_sure_a_figure_is():
    before, after = ranked(0.1, 0.1), ranked(0.11, 0.1)
    after.values["warm"][:, 0] += np.random.default_rng(1).normal(0, 0.05, 400)
    why = keep(before, after, seed=0)[1]
    said = [float(number) for number in re.findall(r"[+-][\d.]+", why.split("warm items")[1])[:3]]
    share = (after.values["warm"] - before.values["warm"]).mean(axis=1) / 0.1 * 100
    low, high = share.mean() + np.array([-1, 1]) * 1.645 * share.std() / 20
    assert said == pytest.approx([share.mean(), low, high], abs=0.3)


def test_the_gate_with_nothing_to_judge_by_refuses():
    nothing = Judged(
        {"warm": np.zeros((0, 2)), "cold": np.zeros((0, 2))},
        {"warm": np.zeros(0, bool), "cold": np.zeros(0, bool)},
        np.zeros(0, np.int64),
    )
    assert keep(nothing, nothing, seed=0) == (False, "no validation target to judge by")


def test_a_figure_that_was_zero_has_gained_its_own_size():
    assert keep(ranked(0.0, 0.1), ranked(0.2, 0.1), seed=0) == (
        True,
        "+50.00% together: warm items +100.00% [+100.00%, +100.00%], cold items +0.00% [+0.00%, +0.00%]",
    )
    assert "+0.00% together" in keep(ranked(0.0, 0.0), ranked(0.0, 0.0), seed=0)[1]


def test_the_gate_does_not_see_the_lift(world, config):
    *_, towers, _, held_out = world
    plain, raised = (judge(replace(towers, lift=lift), held_out, config) for lift in (0.0, 1.0))
    assert plain.figures == raised.figures


def test_unchanged_weights_have_not_moved(world):
    assert set(weights_moved(world[0], world[0].copy()).values()) == {0.0}


def test_the_caller_may_refit_the_towers(world, config, tmp_path):
    asked = []

    def refit(vectors, encoder, whitening):
        asked.append((vectors.shape, whitening.dim))
        return world[3]

    result = tune(world, config, tmp_path, refit=refit)
    assert asked == [((24, 12), 12)]
    assert result.report["before"] == result.report["after"]
    assert not result.kept  # as good is not better


def other_wordings(texts):
    return {row: (f"{text} lamp", f"soap {text}") for row, text in enumerate(texts) if row % 2}


def with_mix(config, chance, tail=0.0):
    return config.model_copy(
        update={"augment": config.augment.model_copy(update={"encoder_mix": chance, "clean_tail": tail})}
    )


def test_other_wordings_are_read_by_chance_and_stand_for_their_item():
    texts, places = ["a", "b", "c"], np.array([0, 1, 0, -1, 2])
    found = Wordings.of(texts, places, {0: ("a1",), 2: ("a2", "a3"), 3: ("nobody's",), 4: ("c1",)})
    assert found.texts == ["a", "b", "c", "a1", "a2", "a3", "c1"]
    chosen = np.array([0, 1, 2])
    assert found.read(chosen, 0.0, np.random.default_rng(0)).tolist() == [0, 1, 2]
    rng = np.random.default_rng(0)
    read = np.array([found.read(chosen, 0.5, rng) for _ in range(3000)])
    assert set(read[:, 0]) == {0, 3, 4, 5}
    assert set(read[:, 1]) == {1}, "nothing else to read"
    assert set(read[:, 2]) == {2, 6}
    assert (read[:, 0] > 0).mean() == pytest.approx(0.5, abs=0.04)
    assert (read[:, 0] == 4).mean() == pytest.approx(1 / 6, abs=0.03)
    again = found.read(np.array([2]), 0.5, np.random.default_rng(7))
    assert again == found.read(chosen, 0.5, np.random.default_rng(7))[2], "whatever else is chosen"


def test_without_a_wording_or_a_chance_fine_tuning_is_as_it_was(world, config, tmp_path):
    encoder, texts, contexts, fitted, whitening, _ = world
    plain = tuned(world, with_mix(config, 0.5), tmp_path / "a")
    for name, mix in (("b", with_mix(config, 0.0)), ("c", with_mix(config, 1.0, tail=1.0))):
        parts = (encoder, texts, contexts, fitted, whitening, mix, tmp_path / name, other_wordings(texts))
        tuning = Tuning(*parts)
        tuning.run(None)
        assert tuning.losses == pytest.approx(plain.losses, abs=1e-6)


def test_fine_tuning_teaches_the_encoder_which_text_a_wording_stands_for(world, config, tmp_path):
    encoder, texts, contexts, fitted, whitening, _ = world
    steady = {"steps": 60, "max_passes": 1000.0, "wording_weight": 3.0, "learning_rate": 1e-3}
    config = config.model_copy(update={"finetune": config.finetune.model_copy(update=steady)})
    wordings = other_wordings(texts)
    rows = np.array([row for row in wordings if row < 20])  # with events

    def stands_out(tuning):
        """How much nearer a wording lies to its own text than to the nearest other one, on average."""
        own = whitening.apply(tuning.encoder.encode(texts[:20]))
        cosines = whitening.apply(tuning.encoder.encode([wordings[row][0] for row in rows])) @ own.T
        mine = cosines[np.arange(len(rows)), rows].copy()
        cosines[np.arange(len(rows)), rows] = -1
        return float((mine - cosines.max(axis=1)).mean())

    found = {}
    for chance in (0.0, 0.7):
        parts = (
            encoder,
            texts,
            contexts,
            fitted,
            whitening,
            with_mix(config, chance),
            tmp_path / str(chance),
        )
        tuning = Tuning(*parts, wordings)
        tuning.run(None)
        found[chance] = stands_out(tuning)
    assert found[0.7] > found[0.0] + 0.1


def test_an_items_vector_is_that_of_its_own_text_between_refreshes(world, config, tmp_path):
    encoder, texts, contexts, fitted, whitening, _ = world
    parts = (encoder, texts, contexts, fitted, whitening, with_mix(config, 1.0), tmp_path)
    tuning = Tuning(*parts, other_wordings(texts))
    before = tuning.text.clone()
    tuning._step(0)
    drawn = tuning.draws.items_with(tuning.draws.texts_of(0))
    changed = {int(row) for row in torch.nonzero((tuning.text != before).any(dim=1))}
    assert changed <= {int(row) for row in drawn if row % 2 == 0}
    assert changed
