"""Ops on representations: the maths against second formulations, and training with each of them on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.augment.fuse import Fusion, in_force, rising, tail_start
from recsys.augment.policy import load_policy, policy_from_plain
from recsys.augment.representation import (
    REPRESENTATION_OPS,
    DropoutViews,
    Fgm,
    GaussianNoise,
    Mixup,
    Passes,
    Pgd,
    Representation,
)
from recsys.augmented import augment_rows
from recsys.config import AugmentConfig, ModelConfig
from recsys.contexts import Vocabulary
from recsys.errors import ConfigError
from recsys.model.batching import seen_items, target_pairs, uniform_candidates
from recsys.model.passes import StepPasses, plain_pass
from recsys.model.perturb import Adversary, Changes, Drawn, StepDraws, ascend, info_nce, keep_one, mixed_users
from recsys.model.step import Batch, part_loss, views_loss
from recsys.model.towers import TwoTower
from recsys.train import fit_towers

OPS = {
    "dropout_views": DropoutViews(weight=0.5),
    "gaussian_noise": GaussianNoise(item_range=(0.1, 0.3), user_range=(0.1, 0.3)),
    "mixup": Mixup(alpha=1.0),
    "fgm": Fgm(),
    "pgd": Pgd(steps=2),
    "half": Fgm(p=0.5),
}


def test_every_op_is_tried_here():
    assert {op.name for op in OPS.values()} == set(REPRESENTATION_OPS)


@pytest.fixture
def batch(shop, unit_vectors):
    contexts = shop(12, 24, 0)
    positions = np.arange(12)
    weights = np.linspace(0.5, 1.0, 12).astype(np.float32)
    seen = seen_items(contexts, np.zeros(24, np.int64))
    pairs = target_pairs(contexts, positions, weights)
    candidates = uniform_candidates(seen, pairs.items, 6, np.random.default_rng(0))
    return Batch(contexts, positions, weights, candidates, torch.from_numpy(unit_vectors), None, 6)


@pytest.fixture
def model(batch):
    torch.manual_seed(0)
    made = TwoTower(np.full(24, 5), 16, ModelConfig(history_length=6))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


# ---- the maths ----


def test_the_first_step_has_length_epsilon_and_raises_the_loss(batch, model):
    places, items = np.arange(12), batch.history_items()
    offsets = [torch.zeros((len(rows), 16), requires_grad=True) for rows in (items, batch.candidates.rows)]
    clean = part_loss(model, batch, places, Changes(items, *offsets))
    taken = torch.autograd.grad(clean, offsets)
    moved = [ascend(torch.zeros_like(g), g, 0.05, 0.05) for g in taken]
    for offset, gradient in zip(moved, taken, strict=True):
        told = gradient.norm(dim=1) > 0
        assert told.any()
        np.testing.assert_allclose(offset.norm(dim=1)[told], 0.05, rtol=1e-5)
        np.testing.assert_array_equal(offset[~told], 0)
        expected = (
            0.05 * gradient.numpy() / np.linalg.norm(gradient.numpy(), axis=1, keepdims=True).clip(1e-30)
        )
        np.testing.assert_allclose(offset, expected, atol=1e-6)
    up = part_loss(model, batch, places, Changes(items, *moved))
    down = part_loss(model, batch, places, Changes(items, *(-offset for offset in moved)))
    assert down < clean < up
    first_order = sum(float((g * o).sum().detach()) for g, o in zip(taken, moved, strict=True))
    assert float((up - clean).detach()) == pytest.approx(first_order, rel=0.2)


def test_steps_stay_in_the_ball_and_end_at_its_edge():
    rng = np.random.default_rng(0)
    offset, direction = torch.zeros(5, 8), torch.from_numpy(rng.normal(size=(5, 8)).astype(np.float32))
    lengths = []
    for _ in range(6):
        offset = ascend(offset, direction, 0.04, 0.1)
        lengths.append(offset.norm(dim=1))
    np.testing.assert_allclose(torch.stack(lengths)[:3, 0], [0.04, 0.08, 0.1], rtol=1e-5)
    np.testing.assert_allclose(offset, 0.1 * torch.nn.functional.normalize(direction), rtol=1e-5)
    for _ in range(20):
        offset = ascend(offset, torch.from_numpy(rng.normal(size=(5, 8)).astype(np.float32)), 0.07, 0.1)
        assert (offset.norm(dim=1) <= 0.1 + 1e-6).all()


def test_the_contrastive_loss_equals_the_sum_written_out():
    rng = np.random.default_rng(1)
    first, second = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 7, 5)))
    groups = np.array([0, 1, 0, 2, 3, 3, 3])
    each = np.zeros(7)
    for a, b in ((first, second), (second, first)):
        for i in range(7):
            rivals = [j for j in range(7) if j == i or groups[j] != groups[i]]
            scores = np.exp([a[i] @ b[j] / 0.2 for j in rivals])
            each[i] -= np.log(np.exp(a[i] @ b[i] / 0.2) / scores.sum()) / 2
    tensors = [torch.from_numpy(values) for values in (first, second, groups)]
    assert float(info_nce(*tensors, 0.2)) == pytest.approx(each.sum())
    parts = [float(info_nce(*tensors, 0.2, torch.tensor(some))) for some in ([0, 3, 6], [1, 2, 4, 5])]
    assert parts == pytest.approx([each[[0, 3, 6]].sum(), each[[1, 2, 4, 5]].sum()])
    assert float(info_nce(tensors[0], tensors[0], torch.arange(7), 0.01)) < 1e-3  # all found
    assert (
        float(info_nce(tensors[0][:1], tensors[1][:1], torch.zeros(1), 0.2)) == 0.0
    )  # nobody to confuse with


def test_mixup_of_everything_and_nothing_is_no_mixup(batch, model):
    places = np.arange(12)
    plain = part_loss(model, batch, places, Changes())
    expected = gradients(model, plain)
    partners = np.random.default_rng(0).permutation(12)
    one = part_loss(model, batch, places, Changes(partners=partners, shares=np.ones(12, np.float32)))
    torch.testing.assert_close(one, plain)
    for found, wanted in zip(gradients(model, one), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    other = part_loss(model, batch, places, Changes(partners=partners, shares=np.zeros(12, np.float32)))
    torch.testing.assert_close(other, plain)  # every row is once somebody's partner
    half = part_loss(model, batch, places, Changes(partners=partners, shares=np.full(12, 0.5, np.float32)))
    assert abs(float((half - plain).detach())) > 0.01


def test_mixed_vectors_lie_between():
    own, other = torch.eye(4)[:2], torch.eye(4)[2:]
    mixed = mixed_users(own, other, torch.tensor([1.0, 0.5]))
    np.testing.assert_allclose(mixed, [[1, 0, 0, 0], [0, 0.5**0.5, 0, 0.5**0.5]], atol=1e-6)


def test_noise_has_the_length_it_says():
    draws = StepDraws(Representation(ops=(GaussianNoise(item_range=(0.2, 0.2), user_range=(0, 0)),)), 0, "s")
    changes = draws.draw(0, 0, 8, np.arange(500), 400, 64, 1.0).changes
    for noise in (changes.history_noise, changes.items_noise):
        assert float((noise**2).sum(dim=1).mean() ** 0.5) == pytest.approx(0.2, rel=0.03)
    assert changes.users is None
    again = draws.draw(0, 0, 8, np.arange(500), 400, 64, 1.0).changes
    assert torch.equal(again.items_noise, changes.items_noise)
    assert not torch.equal(
        draws.draw(0, 1, 8, np.arange(500), 400, 64, 1.0).changes.items_noise, again.items_noise
    )


def test_an_op_does_not_touch_the_draws_of_another():
    noise = GaussianNoise()
    alone = StepDraws(Representation(ops=(noise,)), 0, "s")
    both = StepDraws(Representation(ops=(Mixup(), noise, Fgm())), 0, "s")
    one, two = (draws.draw(1, 2, 8, np.arange(5), 9, 16, 1.0) for draws in (alone, both))
    assert torch.equal(one.changes.items_noise, two.changes.items_noise)
    assert one.changes.partners is None
    assert sorted(two.changes.partners) == list(range(8))
    assert two.adversary == Adversary(0.05, 1, 0.05, False, 0.5)


def test_an_op_is_applied_as_often_as_it_says():
    draws = StepDraws(Representation(ops=(Mixup(p=0.25),)), 0, "s")
    for level, share in ((1.0, 0.25), (0.5, 0.125)):
        hits = [
            draws.draw(0, step, 4, np.arange(2), 2, 8, level).changes.partners is not None
            for step in range(2000)
        ]
        assert np.mean(hits) == pytest.approx(share, abs=0.03)


def test_a_view_keeps_an_event():
    mask = np.array([[True, True, False], [False, True, True], [False, False, False]])
    left = keep_one(np.zeros((3, 3), bool), mask)
    np.testing.assert_array_equal(left, [[True, False, False], [False, True, False], [False, False, False]])
    np.testing.assert_array_equal(keep_one(np.ones((3, 3), bool), mask), mask)


def test_views_that_drop_nothing_are_one_view(batch, model):
    none = (0.0, 0.0)
    op = DropoutViews(
        event_rate_range=none, feature_rate_range=none, residual_rate_range=none, text_rate_range=none,
        temperature=0.01,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    same = float(views_loss(model, batch, op, np.arange(12), rng).detach())
    dropping = op.model_copy(update={"event_rate_range": (0.8, 0.8), "text_rate_range": (0.8, 0.8)})
    assert same < float(views_loss(model, batch, dropping, np.arange(12), rng).detach())


# ---- parts, processes and passes ----


@pytest.mark.parametrize("name", ["gaussian_noise", "mixup", "fgm", "pgd", "dropout_views"])
def test_parts_of_a_batch_add_up_to_it(batch, model, name):
    """Micro-batches and processes: the parts' gradients sum to the whole batch's."""
    draws = StepDraws(Representation(ops=(OPS[name],)), 0, "s")
    drawn = draws.draw(0, 0, 12, batch.history_items(), len(batch.candidates.rows), 16, 1.0)

    def taken(parts):
        model.zero_grad()
        passes = StepPasses(model, batch, parts, 3.0, lambda tensor: tensor)
        loss, counted = passes.run(drawn, np.random.default_rng(4))
        return loss, counted, [parameter.grad.clone() for parameter in model.parameters()]

    whole, parts = taken([np.arange(12)]), taken([np.arange(0, 12, 2), np.array([1, 3]), np.arange(5, 12, 2)])
    assert whole[0] == pytest.approx(parts[0], rel=1e-5)
    assert whole[1] == parts[1] == Passes(1 + OPS[name].extra.forward, 1 + OPS[name].extra.backward)
    for one, other in zip(whole[2], parts[2], strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-3)
    model.zero_grad()
    plain_pass(model, batch, [np.arange(12)], 3.0)
    different = [float((a - p.grad).abs().max()) for a, p in zip(whole[2], model.parameters(), strict=True)]
    assert max(different) > 1e-4  # the op does something


def test_the_weights_follow_the_share_of_each_pass(batch, model):
    """FGM by hand: half the clean gradient and half that at the moved vectors."""
    places, items = [np.arange(12)], batch.history_items()
    drawn = Drawn(Changes(items), None, Adversary(0.05, 1, 0.05, False, 0.25))
    model.zero_grad()
    StepPasses(model, batch, places, 1.0, lambda tensor: tensor).run(drawn, np.random.default_rng(0))
    found = [parameter.grad.clone() for parameter in model.parameters()]
    offsets = [torch.zeros((len(rows), 16), requires_grad=True) for rows in (items, batch.candidates.rows)]
    clean = part_loss(model, batch, places[0], Changes(items, *offsets))
    moved = [ascend(torch.zeros_like(g), g, 0.05, 0.05) for g in torch.autograd.grad(clean, offsets)]
    base = gradients(model, part_loss(model, batch, places[0], Changes()))
    up = gradients(model, part_loss(model, batch, places[0], Changes(items, *moved)))
    for one, a, b in zip(found, base, up, strict=True):
        torch.testing.assert_close(one, 0.75 * a + 0.25 * b, atol=1e-5, rtol=1e-4)


def test_passes_weigh_what_the_settings_say():
    assert Adversary(0.1, 3, 0.04, False, 0.5).scales() == [0.5, 0, 0, 0.5]
    assert Adversary(0.1, 2, 0.04, True, 1.0).scales() == [0, 0.5, 0.5]


# ---- training ----


@pytest.fixture
def world(shop, unit_vectors):
    fit, held_out = shop(200, 24, 0), shop(60, 24, 1, "held_out")
    return fit, unit_vectors, np.bincount(fit.target_rows, minlength=24), held_out


def fit(world, config, folder, *ops, **changes):
    contexts, vectors, counts, held_out = world
    options = {"validation": held_out, "representation": Representation(ops=ops)} | changes
    return fit_towers(contexts, vectors, counts, config, folder, **options)


def assert_same(a, b):
    assert (a.epochs, a.validation) == (b.epochs, b.validation)
    for name, value in a.state.items():
        assert value.tobytes() == b.state[name].tobytes(), name


GOLDEN = {
    "uniform": [11.37298025, 8.68086032, 6.92136472],
    "in_batch": [10.69559125, 7.85903937, 6.62321384],
}


@pytest.mark.parametrize("negatives", ["uniform", "in_batch"])
def test_without_ops_the_loss_curve_is_the_recorded_one(world, config, tmp_path, negatives):
    changed = {
        "train": config.train.model_copy(update={"negatives": negatives}),
        "model": config.model.model_copy(update={"item_bias": False}),
    }
    fitted = fit(world, config.model_copy(update=changed), tmp_path, epochs=3, validation=None)
    np.testing.assert_allclose(fitted.losses, GOLDEN[negatives], rtol=1e-5)
    assert fitted.passes_per_step == Passes(1, 1)


@pytest.mark.parametrize("name", OPS)
def test_switched_off_an_op_changes_no_bit(world, config, tmp_path, name):
    plain = fit(world, config, tmp_path / "plain", epochs=2)
    off = config.model_copy(update={"augment": AugmentConfig(enabled=False)})
    assert_same(plain, fit(world, off, tmp_path / "off", OPS[name], epochs=2))
    never = OPS[name].model_copy(update={"p": 0.0})
    again = fit(world, config, tmp_path / "never", never, epochs=2)
    np.testing.assert_allclose(again.losses, plain.losses, rtol=1e-6)
    on = fit(world, config, tmp_path / "on", OPS[name], epochs=2)
    assert any(on.state[key].tobytes() != plain.state[key].tobytes() for key in plain.state)


@pytest.mark.parametrize("name", OPS)
def test_killed_with_an_op_on_it_resumes_bit_for_bit(world, config, tmp_path, name):
    def kill(done):
        if done == 9:
            raise KeyboardInterrupt

    both = (OPS[name], *([GaussianNoise()] if name not in ("gaussian_noise",) else []))
    whole = fit(world, config, tmp_path / "whole", *both, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        fit(world, config, tmp_path / "killed", *both, epochs=3, on_step=kill)
    resumed = fit(world, config, tmp_path / "killed", *both, epochs=3)
    assert_same(whole, resumed)
    assert whole.passes_per_step == resumed.passes_per_step


@pytest.mark.parametrize("name", OPS)
def test_it_still_learns_and_cold_items_stay_as_they_are(world, config, tmp_path, name):
    longer = config.model_copy(update={"train": config.train.model_copy(update={"max_epochs": 8})})
    fitted = fit(world, longer, tmp_path, OPS[name], epochs=8)
    assert max(fitted.validation) > fitted.validation[0] + 0.15
    for table in ("target_residual", "history_residual"):
        np.testing.assert_array_equal(fitted.state[table][-4:], 0)
    extra = OPS[name].extra
    if OPS[name].p == 1:
        assert fitted.passes_per_step == Passes(1 + extra.forward, 1 + extra.backward), "to the last step"


def test_an_accumulated_step_equals_the_whole(world, config, tmp_path):
    parts = config.model_copy(update={"train": config.train.model_copy(update={"accumulate": 4})})
    ops = (OPS["mixup"], OPS["fgm"], OPS["dropout_views"], OPS["gaussian_noise"])
    one = fit(world, config, tmp_path / "1", *ops, epochs=2)
    four = fit(world, parts, tmp_path / "4", *ops, epochs=2)
    np.testing.assert_allclose(one.losses, four.losses, rtol=1e-3)
    np.testing.assert_allclose(one.item_vectors(), four.item_vectors(), atol=2e-2)


def test_views_pull_the_halves_of_a_history_together(make, unit_vectors, config, tmp_path):
    """Two communities whose items never share a text: views of one history agree more than without."""
    rng = np.random.default_rng(0)
    histories = [[int(i) for i in rng.permutation(10)[:6] + 10 * (k % 2)] for k in range(120)]
    rows = make(histories, [[int(rng.integers(10)) + 10 * (k % 2)] for k in range(120)])
    counts = np.bincount(rows.target_rows, minlength=24)

    def agreement(*ops):
        fitted = fit(
            (rows, unit_vectors, counts, None),
            config,
            tmp_path / str(len(ops)),
            *ops,
            epochs=8,
            validation=None,
        )
        vectors = fitted.history_vectors()

        def halves(a, b):
            return (vectors[a].mean(axis=0) @ vectors[b].mean(axis=0)) / (
                np.linalg.norm(vectors[a].mean(axis=0)) * np.linalg.norm(vectors[b].mean(axis=0))
            )

        first, second = np.arange(0, 5), np.arange(5, 10)
        return halves(first, second) - halves(first, second + 10)

    strong = DropoutViews(weight=1.0, event_rate_range=(0.5, 0.5))
    assert agreement(strong) > agreement() + 0.02


# ---- the schedule ----


def test_the_clean_tail_of_an_early_stop_is_that_of_a_fit_for_as_many_epochs(world, config, tmp_path):
    settings = {"max_epochs": 12, "patience": 2, "learning_rate": 0.3}
    early = config.model_copy(update={"train": config.train.model_copy(update=settings)})
    found = fit(world, early, tmp_path / "early", GaussianNoise(), text_variants=np.roll(world[1], 1, axis=0))
    assert 3 <= found.epochs < 12
    fixed = fit(
        world, early, tmp_path / "fixed", GaussianNoise(), epochs=found.epochs,
        text_variants=np.roll(world[1], 1, axis=0),
    )  # fmt: skip
    for name, value in found.state.items():
        assert value.tobytes() == fixed.state[name].tobytes(), name
    assert not list((tmp_path / "early").glob("epochs/*"))
    assert len(found.losses) > len(found.validation)  # the tail was walked again

    steps = []

    def kill(at):
        def hook(done):
            steps.append(done)
            if len(steps) == at:
                raise KeyboardInterrupt

        return hook

    total = len(found.losses) * 7
    for at in (total - 2, len(found.validation) * 7 - 1):  # in the tail, and before it
        folder = tmp_path / f"killed-{at}"
        steps.clear()
        with pytest.raises(KeyboardInterrupt):
            fit(
                world,
                early,
                folder,
                GaussianNoise(),
                text_variants=np.roll(world[1], 1, axis=0),
                on_step=kill(at),
            )
        again = fit(world, early, folder, GaussianNoise(), text_variants=np.roll(world[1], 1, axis=0))
        assert_same(found, again)


def test_nothing_augmented_has_no_tail_to_walk(world, config, tmp_path):
    settings = {"max_epochs": 12, "patience": 2, "learning_rate": 0.3}
    early = config.model_copy(update={"train": config.train.model_copy(update=settings)})
    found = fit(world, early, tmp_path / "early")
    assert len(found.losses) == len(found.validation) > found.epochs
    assert not (tmp_path / "early" / "epochs").exists()


def test_ops_on_vectors_have_no_tail_to_walk(world, config, tmp_path):
    settings = {"max_epochs": 12, "patience": 2, "learning_rate": 0.3}
    early = config.model_copy(update={"train": config.train.model_copy(update=settings)})
    found = fit(world, early, tmp_path / "early", OPS["fgm"])
    assert len(found.losses) == len(found.validation) > found.epochs
    fixed = fit(world, early, tmp_path / "fixed", OPS["fgm"], epochs=found.epochs)
    for name, value in found.state.items():
        assert value.tobytes() == fixed.state[name].tobytes(), name


def test_text_variants_follow_the_clean_tail(world, config, tmp_path):
    variants = np.roll(world[1], 1, axis=0)
    clean = config.model_copy(update={"augment": AugmentConfig(clean_tail=1.0)})
    plain = fit(world, config, tmp_path / "plain", epochs=3)
    assert_same(plain, fit(world, clean, tmp_path / "tail", epochs=3, text_variants=variants))
    mixed = fit(world, config, tmp_path / "mixed", epochs=3, text_variants=variants)
    assert mixed.losses[0] != plain.losses[0]


def test_the_schedule_is_one_for_rows_and_texts():
    for strategy in ("mix", "curriculum", "concatenate"):
        config = AugmentConfig(fusion=strategy, clean_tail=0.2)
        fusion = Fusion(
            np.array([-1, -1, -1, -1, 0, 1, 2, 3]), config.model_copy(update={"mix_probability": 1.0}), 0
        )
        for num in (1, 3, 5, 10):
            levels = [in_force(epoch, num, config) for epoch in range(num)]
            start = tail_start(num, config)
            assert all(levels[:start])
            assert not any(levels[start:])
            for epoch in range(start, num):
                assert fusion.select(epoch, num).rows.max() < 4
    assert [in_force(e, 10, AugmentConfig(fusion="curriculum")) for e in (0, 2, 9)] == [
        pytest.approx(1 / 3),
        1.0,
        0,
    ]
    assert [rising(e, 10, AugmentConfig(fusion="curriculum")) for e in (0, 2, 9)] == [
        pytest.approx(1 / 3),
        1.0,
        1.0,
    ]
    assert rising(0, 1, AugmentConfig(enabled=False)) == 0
    assert [tail_start(n, AugmentConfig()) for n in (1, 2, 3, 7, 8, 12)] == [1, 2, 2, 6, 6, 10]
    assert tail_start(4, AugmentConfig(enabled=False)) == 0


def test_views_of_one_user_are_no_rivals(make, unit_vectors, model):
    """Two rows of one user repeat a history: with another's name on one they would be negatives."""
    rows = make([[1, 2], [1, 2], [5, 6]], [[3], [3], [7]])
    named = replace(rows, user_ids=np.array(["a", "a", "b"]))
    none = (0.0, 0.0)
    op = DropoutViews(
        event_rate_range=none, feature_rate_range=none, residual_rate_range=none, text_rate_range=none,
        temperature=0.05,
    )  # fmt: skip

    def loss(contexts):
        pairs = target_pairs(contexts, np.arange(3))
        candidates = uniform_candidates(np.arange(8), pairs.items, 4, np.random.default_rng(0))
        batch = Batch(
            contexts,
            np.arange(3),
            np.ones(3, np.float32),
            candidates,
            torch.from_numpy(unit_vectors),
            None,
            6,
        )
        return float(views_loss(model, batch, op, np.arange(3), np.random.default_rng(0)).detach())

    assert loss(named) < loss(rows) - 0.3


# ---- the policy ----

POLICY = """
name = "vectors"

[[representation.ops]]
op = "mixup"
alpha = 0.4

[[representation.ops]]
op = "pgd"
steps = 2
epsilon_range = [0.0, 0.2]
p = 0.5
"""


def test_a_policy_file_goes_round(tmp_path: Path):
    file = tmp_path / "p.toml"
    file.write_text(POLICY)
    policy = load_policy(file)
    assert policy.representation.ops == (Mixup(alpha=0.4), Pgd(steps=2, epsilon_range=(0.0, 0.2), p=0.5))
    again = tmp_path / "again.toml"
    again.write_text(policy.to_toml())
    assert load_policy(again) == policy
    assert load_policy(again).policy_id == policy.policy_id
    assert "mixup(alpha=0.4)" in repr(policy)
    assert "2 passes forward" in repr(policy)
    other = policy_from_plain({**policy.to_plain(), "representation": {"ops": [{"op": "mixup"}]}})
    assert other.policy_id != policy.policy_id
    bare = policy_from_plain({"name": "vectors"})
    assert bare.representation == Representation()
    assert "representation" not in bare.to_plain()


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"op": "fgm", "epsilon_range": [0.1, 2.0]}, ["representation.ops[0]", "fgm.epsilon_range"]),
        ({"op": "fgm", "epsilon_range": [0.2, 0.1]}, ["fgm.epsilon_range", "(low, high)"]),
        ({"op": "pgd", "steps": 9}, ["pgd.steps"]),
        ({"op": "pgd", "gradients": "first"}, ["pgd.gradients"]),
        ({"op": "mixup", "alpha": 0}, ["mixup.alpha"]),
        ({"op": "gaussian_noise", "item_range": [-0.1, 0.1]}, ["gaussian_noise.item_range"]),
        ({"op": "dropout_views", "temperature": 0.001}, ["dropout_views.temperature"]),
        ({"op": "dropout_views", "wieght": 0.1}, ["dropout_views.wieght", "weight"]),
        ({"op": "crop"}, ["representation.ops[0]", "crop", "mixup"]),
        ("mixup", ["representation.ops[0]", "expected a table"]),
    ],
)
def test_bounds_name_the_op_and_the_field(plain, words):
    with pytest.raises(ConfigError) as caught:
        policy_from_plain({"name": "x", "representation": {"ops": [plain]}}, source="mine.toml")
    assert all(word in str(caught.value) for word in ["mine.toml", *words]), str(caught.value)


def test_an_op_stands_once_and_adversaries_exclude_each_other():
    for ops, words in (
        ([{"op": "mixup"}] * 2, "stands here 2 times"),
        ([{"op": "fgm"}, {"op": "pgd"}], "exclude"),
    ):
        with pytest.raises(ConfigError, match=words):
            policy_from_plain({"name": "x", "representation": {"ops": ops}})
    with pytest.raises(ConfigError, match="there is no setting"):
        policy_from_plain({"name": "x", "representation": {"op": []}})


def test_every_setting_has_a_sentence():
    for op in REPRESENTATION_OPS.values():
        assert (op.__doc__ or "").strip()
        for name, field in op.model_fields.items():
            assert field.description, f"{op.name}.{name}"


def test_the_guide_lists_every_op_and_its_cost():
    guide = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    section = guide.partition("## Perturbed representations")[2].partition("\n## ")[0].splitlines()
    rows = {row.split("|")[1].strip().strip("`"): row for row in section if row.startswith("| `")}
    assert set(rows) == set(REPRESENTATION_OPS)
    for name, op in REPRESENTATION_OPS.items():
        forward, backward = op().extra
        cost = "`steps` + `steps`" if name == "pgd" else f"{forward} + {backward}"
        assert rows[name].endswith(f"| {cost} |"), name
        strengths = {field for field in op.model_fields if field.endswith("_range")}
        assert all(f"`{field}`" in rows[name] for field in strengths), name


def test_a_policys_ops_reach_training_and_off_is_nothing(shop, config, tmp_path):
    file = tmp_path / "p.toml"
    file.write_text(POLICY)
    rows, vocabulary = shop(20, 24, 0), Vocabulary([f"i{k}" for k in range(24)])
    for enabled in (True, False):
        augment = AugmentConfig(enabled=enabled, policy=str(file))
        settings = config.model_copy(update={"augment": augment})
        grown = augment_rows(rows, vocabulary, 0, settings, tmp_path / "provenance.parquet")
        assert [op.name for op in grown.representation.ops] == (["mixup", "pgd"] if enabled else [])
