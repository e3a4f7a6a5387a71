"""Training: it learns, it never touches cold items, and it resumes bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys.config import ModelConfig
from recsys.contexts import Contexts, concatenate
from recsys.errors import LeakageError
from recsys.model.batching import batch_for
from recsys.model.fitted import TowersFit
from recsys.model.gate import LIFTS, choose_lift
from recsys.model.towers import TwoTower
from recsys.model.validation import ranking_figures, validation_positions
from recsys.optimise import schedule
from recsys.train import fit_towers

COLD = 4


class Killed(Exception):
    pass


def kill_at(step):
    def hook(done):
        if done == step:
            raise Killed

    return hook


@pytest.fixture
def world(shop, unit_vectors):
    fit, held_out = shop(200, 24, 0), shop(60, 24, 1, "held_out")
    return fit, unit_vectors, np.bincount(fit.target_rows, minlength=24), held_out


def fit(world, config, folder, **changes):
    contexts, vectors, counts, held_out = world
    options = {"validation": held_out} | changes
    return fit_towers(contexts, vectors, counts, config, folder, **options)


def with_settings(config, **changes):
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def assert_same(a, b):
    assert a.epochs == b.epochs
    assert a.validation == b.validation
    for name, value in a.state.items():
        assert value.tobytes() == b.state[name].tobytes(), name


def test_it_learns_what_follows_what(world, config, tmp_path):
    fitted = fit(world, with_settings(config, max_epochs=12, patience=12), tmp_path)
    assert fitted.losses[-1] < 0.7 * fitted.losses[0]
    assert max(fitted.validation) > fitted.validation[0] + 0.2
    assert fitted.epochs == int(np.argmax(fitted.validation)) + 1
    held_out = world[3]
    positions = validation_positions(held_out, 1000, 0)
    users = fitted.user_vectors(held_out, positions)
    found = ranking_figures(users, fitted.unit_item_vectors(), held_out, positions)
    assert found["ndcg@10"] == pytest.approx(max(fitted.validation))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("negatives", ["uniform", "in_batch"])
def test_cold_items_are_never_touched(world, config, tmp_path, negatives, bias):
    model = config.model.model_copy(update={"item_bias": bias})
    config = with_settings(config.model_copy(update={"model": model}), negatives=negatives)
    fitted = fit(world, config, tmp_path)
    cold = slice(24 - COLD, None)
    vectors = world[1][cold].copy()
    if bias:  # the last coordinate is the bias's, and a cold item has none
        vectors[:, -1] = 0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert world[2][cold].sum() == 0
    np.testing.assert_array_equal(fitted.state["target_residual"][cold], 0)
    np.testing.assert_array_equal(fitted.state["history_residual"][cold], 0)
    np.testing.assert_allclose(fitted.unit_item_vectors()[cold], vectors, atol=1e-6)
    np.testing.assert_allclose(fitted.item_vectors()[cold], vectors * (1 + fitted.lift), atol=1e-6)
    assert np.abs(fitted.state["target_residual"][:COLD]).max() > 0.01


@pytest.mark.parametrize(("step", "first"), [(1, 1), (5, 5), (7, 7), (8, 8), (20, 21)])
def test_killed_at_a_step_it_resumes_bit_for_bit(world, config, tmp_path, step, first):
    # 200 rows in batches of 32 are 7 steps; a checkpoint every 2 and at each of the 3 epochs' ends.
    whole = fit(world, config, tmp_path / "whole")
    with pytest.raises(Killed):
        fit(world, config, tmp_path / "killed", on_step=kill_at(step))
    steps = []
    resumed = fit(world, config, tmp_path / "killed", on_step=steps.append)
    assert_same(whole, resumed)
    assert steps[0] == first
    again = fit(world, config, tmp_path / "killed", on_step=kill_at(1))  # finished: nothing is run
    assert_same(whole, again)


def test_a_killed_early_stopping_keeps_its_best(world, config, tmp_path):
    worse = with_settings(config, max_epochs=8, patience=2, learning_rate=0.5)
    whole = fit(world, worse, tmp_path / "whole")
    with pytest.raises(Killed):
        fit(world, worse, tmp_path / "killed", on_step=kill_at(len(whole.validation) * 7 - 1))
    assert_same(whole, fit(world, worse, tmp_path / "killed"))
    assert whole.epochs < len(whole.validation)


def test_a_checkpoint_of_other_data_is_not_used(world, config, tmp_path, shop):
    fit(world, config, tmp_path)
    other = (shop(200, 24, 5), *world[1:])
    steps = []
    resumed = fit(other, config, tmp_path, on_step=steps.append)
    assert steps[0] == 1
    assert_same(resumed, fit(other, config, tmp_path / "fresh"))


def test_a_damaged_checkpoint_starts_anew(world, config, tmp_path):
    whole = fit(world, config, tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    assert_same(whole, fit(world, config, tmp_path))


def test_accumulation_equals_the_big_batch(world, config, tmp_path):
    whole = fit(world, config, tmp_path / "1")
    parts = fit(world, with_settings(config, accumulate=4), tmp_path / "4")
    np.testing.assert_allclose(whole.losses, parts.losses, rtol=1e-4)
    np.testing.assert_allclose(whole.item_vectors(), parts.item_vectors(), atol=2e-3)
    other = fit(world, with_settings(config, batch_size=8), tmp_path / "8")
    assert np.abs(whole.item_vectors() - other.item_vectors()).max() > 0.05  # the test can fail


def test_a_fixed_number_of_epochs_walks_the_schedule_that_chose_it(world, config, tmp_path):
    chosen = fit(world, with_settings(config, patience=1), tmp_path / "select")
    fixed = fit(world, config, tmp_path / "fixed", epochs=2, validation=None)
    longer = fit(world, config, tmp_path / "longer", epochs=3, validation=None)
    assert fixed.losses == longer.losses[:2] == chosen.losses[:2]
    assert fixed.epochs == 2


def test_fusion_chooses_rows_and_weights(world, config, tmp_path):
    asked = []

    class Half:
        def select(self, epoch, num_epochs):
            asked.append((epoch, num_epochs))
            return np.arange(100), np.full(100, 0.5, np.float32)

    steps = []
    fused = fit(world, config, tmp_path / "a", epochs=2, validation=None, fusion=Half(), on_step=steps.append)
    assert asked == [(0, 2), (1, 2)]
    assert len(steps) == 8  # 100 rows in batches of 32, twice
    half = (world[0].take(np.arange(100)), *world[1:])
    plain = fit(half, config, tmp_path / "b", epochs=2, validation=None)
    # A weight that all rows share changes nothing, since the loss is a weighted mean.
    np.testing.assert_allclose(fused.losses, plain.losses, rtol=0.2)


def test_text_variants_enter_training_alone(world, config, tmp_path):
    variants = np.zeros_like(world[1])
    variants[:6] = world[1][6:12]
    plain = fit(world, config, tmp_path / "a", epochs=2)
    mixed = fit(world, config, tmp_path / "b", epochs=2, text_variants=variants)
    assert plain.losses != mixed.losses
    np.testing.assert_array_equal(plain.text_vectors, mixed.text_vectors)


def test_the_lift_is_the_given_the_chosen_or_the_configured(world, config, tmp_path):
    given = fit(world, config, tmp_path / "a", epochs=1, lift=0.7)
    assert given.lift == 0.7
    lengths = np.linalg.norm(given.item_vectors(), axis=1)
    np.testing.assert_allclose(lengths[-COLD:], 1.7, rtol=1e-5)
    assert (lengths[:-COLD] < 1.7).all()
    assert (lengths >= 1 - 1e-5).all()
    assert fit(world, config, tmp_path / "b", epochs=1, validation=None).lift == config.model.lift
    assert fit(world, config, tmp_path / "a", epochs=1).lift in LIFTS


def test_the_lift_that_ranks_best_is_chosen(make, unit_vectors):
    """Cold items 2 and 3 are wanted but deflated; only a lift of at least 0.4 brings them first."""
    items = np.zeros((4, 4), np.float32)
    items[[0, 1], [0, 1]] = 1.0
    items[2, 0] = items[3, 1] = 0.75
    shape = ModelConfig(shrinkage=0.0)
    state = {"target_residual": items * 0, "history_residual": items * 0}
    tower = TwoTower(np.array([5, 5, 0, 0]), 4, shape)
    state |= {k: v.detach().numpy() for k, v in tower.state_dict().items() if k.startswith("user.")}
    users = np.eye(4, dtype=np.float32)

    class Fixed(TowersFit):
        def unit_item_vectors(self):
            return items

        def user_vectors(self, contexts, positions=None):
            return users[:2]

    fitted = Fixed(state, items, np.array([5, 5, 0, 0]), shape, 1, (), (), 1.0)
    wanted = make([[3], [2]], [[2], [3]], "held_out")
    assert choose_lift(fitted, wanted, np.arange(2)) == 0.4
    warm = make([[3], [2]], [[0], [1]], "held_out")
    assert choose_lift(fitted, warm, np.arange(2)) == 0.0


def test_held_out_rows_are_refused(world, config, tmp_path):
    with pytest.raises(LeakageError):
        fit((world[3], *world[1:]), config, tmp_path)


def test_augmented_rows_are_refused_in_validation(world, config, tmp_path):
    held_out = world[3]
    parts = {name: getattr(held_out, name) for name in Contexts.__dataclass_fields__}
    child = Contexts(**{**parts, "parents": np.zeros(len(held_out), np.int64)})
    with pytest.raises(LeakageError):
        fit(world, config, tmp_path, validation=concatenate([held_out, child]))


def test_the_schedule_rises_and_falls():
    rates = [schedule(step, 100, 0.1) for step in range(100)]
    assert np.argmax(rates) == 10
    assert rates[0] < 0.2
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert (np.diff(rates[10:]) < 0).all()


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import os, signal
import numpy as np, torch
from pathlib import Path
from conftest import make_shop
from recsys.config import load_config
from recsys.train import fit_towers
torch.set_num_threads(1)
vectors = np.random.default_rng(3).normal(size=(24, 16)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
rows = make_shop(200, 24, 0)
kill = {kill}
fitted = fit_towers(
    rows, vectors, np.bincount(rows.target_rows, minlength=24),
    load_config(None, {settings!r}), Path({folder!r}), epochs=3,
    on_step=lambda done: os.kill(os.getpid(), signal.SIGKILL) if done == kill else None,
)
if int(os.environ.get("RANK", "0")) == 0:
    np.savez({folder!r} + "/result.npz", losses=np.array(fitted.losses), **fitted.state)
"""

SETTINGS = [
    "run.device=cpu", "model.history_length=6", "train.batch_size=32", "train.min_steps=1",
    "train.num_negatives=8", "train.max_epochs=3", "train.checkpoint_steps=2",
]  # fmt: skip


def run_script(folder, kill=0, launcher=()):
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    tests = str(Path(__file__).parent)
    script.write_text(SCRIPT.format(tests=tests, kill=kill, settings=SETTINGS, folder=str(folder)))
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *launcher, str(script)], env=environment, capture_output=True, text=True, timeout=240
    )


def test_sigkill_then_resume_is_bit_for_bit(tmp_path):
    done = run_script(tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    killed = run_script(tmp_path / "killed", kill=12)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "result.npz").exists()
    resumed = run_script(tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    ours, theirs = (np.load(tmp_path / name / "result.npz") for name in ("whole", "killed"))
    for name in ours.files:
        assert ours[name].tobytes() == theirs[name].tobytes(), name


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    one = run_script(tmp_path / "one")
    assert one.returncode == 0, one.stderr
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    two = run_script(tmp_path / "two", launcher=launcher)
    assert two.returncode == 0, two.stderr
    ours, theirs = (np.load(tmp_path / name / "result.npz") for name in ("one", "two"))
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-5)
    for name in ("target_residual", "history_residual", "log_temperature"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=2e-4, err_msg=name)
    # What all weights of the pool share cancels out: Adam turns its rounding noise into steps.
    lags = [run["user.lag_bias"] - run["user.lag_bias"].mean() for run in (ours, theirs)]
    np.testing.assert_allclose(*lags, atol=2e-3)
    assert np.abs(ours["target_residual"]).max() > 0.01


@pytest.mark.parametrize(
    ("rows", "most", "steps", "batch"),
    [(100_000, 256, 40, 256), (4_000, 256, 40, 100), (1_801, 256, 40, 46), (300, 256, 40, 16), (3, 8, 40, 8)],
)
def test_a_small_shop_has_small_batches(rows, most, steps, batch):
    assert batch_for(rows, most, steps) == batch


def test_an_epoch_of_few_rows_takes_many_steps(world, config, tmp_path):
    taken = []
    fit(world, with_settings(config, batch_size=256), tmp_path / "one", epochs=1, on_step=taken.append)
    fit(
        world,
        with_settings(config, batch_size=256, min_steps=8),
        tmp_path / "many",
        epochs=1,
        on_step=taken.append,
    )
    assert taken == [1, *range(1, 9)]
