import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from recsys.errors import ArtifactError
from recsys.scorer import OnnxScorer, OnnxTextEncoder, OnnxUserTower
from recsys.types import EncodedHistory

DIM = 4
F, INT, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def save(path, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def tower_path(tmp_path):
    """user = sum over places of vector * mask * (place + 1) * (1 + event) + gap: sensitive to all of it."""
    nodes = [
        helper.make_node("Cast", ["mask"], ["m"], to=F),
        helper.make_node("CumSum", ["m", "axis"], ["place"]),
        helper.make_node("Cast", ["events"], ["e"], to=F),
        helper.make_node("Add", ["e", "one"], ["e1"]),
        helper.make_node("Mul", ["place", "e1"], ["w0"]),
        helper.make_node("Add", ["w0", "gaps"], ["w1"]),
        helper.make_node("Mul", ["w1", "m"], ["w"]),
        helper.make_node("Unsqueeze", ["w", "last"], ["w3"]),
        helper.make_node("Mul", ["history", "w3"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis1"], ["user"], keepdims=0),
    ]
    return save(
        tmp_path / "user_tower.onnx",
        nodes,
        [
            ("history", F, ["b", "l", DIM]),
            ("events", INT, ["b", "l"]),
            ("gaps", F, ["b", "l"]),
            ("mask", B, ["b", "l"]),
        ],
        [("user", F, ["b", DIM])],
        [
            ("axis", np.array(1, np.int64)),
            ("axis1", np.array([1], np.int64)),
            ("last", np.array([2], np.int64)),
            ("one", np.array(1, np.float32)),
        ],
    )


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(9, DIM)).astype(np.float32)


def encoded(rows, codes=None, times=None):
    rows = np.asarray(rows, np.int64)
    codes = np.zeros(len(rows), np.int64) if codes is None else np.asarray(codes, np.int64)
    times = np.full(len(rows), 100, np.int64) if times is None else np.asarray(times, np.int64)
    return EncodedHistory(rows, codes, times)


def test_newest_event_comes_first_with_its_code_and_gap(tower_path, vectors):
    tower = OnnxUserTower(tower_path, vectors, history_length=3, threads=1)
    history = encoded([5, 6, 7, 8], codes=[0, 1, 2, 3], times=[60, 70, 80, 95])
    expected = vectors[8] * (1 * 4 + 5) + vectors[7] * (2 * 3 + 20) + vectors[6] * (3 * 2 + 30)
    np.testing.assert_allclose(tower.encode([history], [100])[0], expected, rtol=1e-5)


def test_a_gap_is_never_negative(tower_path, vectors):
    tower = OnnxUserTower(tower_path, vectors, history_length=3, threads=1)
    at, later = tower.encode([encoded([1], times=[50])] * 2, [50, 10])
    np.testing.assert_array_equal(at, later)


def test_batches_equal_single_calls_and_empty_histories_are_zero(tower_path, vectors, monkeypatch):
    monkeypatch.setattr("recsys.scorer._BLOCK_BYTES", 4 * DIM * 5 * 2)  # chunks of two
    tower = OnnxUserTower(tower_path, vectors, history_length=5, threads=1)
    draws = np.random.default_rng(1)
    histories = [encoded(draws.integers(0, 9, draws.integers(0, 8))) for _ in range(7)] + [encoded([])]
    together = tower.encode(histories, [200] * 8)
    assert together.shape == (8, DIM)
    for i, history in enumerate(histories):
        np.testing.assert_array_equal(together[i], tower.encode([history], [200])[0])
        assert together[i].any() == bool(len(history.rows))
    assert tower.encode([], []).shape == (0, DIM)


def test_works_over_a_memory_map(tower_path, vectors, tmp_path):
    np.save(tmp_path / "v.npy", vectors)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    plain = OnnxUserTower(tower_path, vectors, 3, 1).encode([encoded([1, 2])], [100])
    np.testing.assert_array_equal(
        OnnxUserTower(tower_path, mapped, 3, 1).encode([encoded([1, 2])], [100]), plain
    )


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9])
def test_the_parts_of_a_user_vector_add_up_and_are_the_weights(tower_path, vectors, count):
    """More events than dimensions take several calls; those beyond the length are not read."""
    tower = OnnxUserTower(tower_path, vectors, history_length=7, threads=1)
    rng = np.random.default_rng(count)
    history = encoded(rng.integers(0, 9, count), rng.integers(0, 3, count), 90 + np.arange(count))
    parts = tower.parts(history, 120)
    (user,) = tower.encode([history], [120])
    assert parts.shape == (count, DIM)
    np.testing.assert_allclose(parts.sum(axis=0), user, rtol=1e-4)
    newest = min(count, 7)
    assert not parts[: count - newest].any()
    for back in range(newest):
        at = count - 1 - back
        weight = (back + 1) * (1 + history.event_codes[at]) + 120 - history.timestamps[at]
        np.testing.assert_allclose(parts[at], weight * vectors[history.rows[at]], rtol=1e-3, atol=1e-3)


def test_a_tower_that_is_no_weighted_sum_has_no_parts(tmp_path, vectors):
    nodes = [
        helper.make_node("Cast", ["mask"], ["m"], to=F),
        helper.make_node("Cast", ["events"], ["e"], to=F),
        helper.make_node("Add", ["e", "gaps"], ["g"]),
        helper.make_node("Mul", ["g", "m"], ["gm"]),
        helper.make_node("ReduceSum", ["gm", "axis1"], ["bias"], keepdims=1),
        helper.make_node("ReduceSum", ["history", "axis1"], ["total"], keepdims=0),
        helper.make_node("Mul", ["total", "total"], ["square"]),
        helper.make_node("Add", ["square", "bias"], ["user"]),
    ]
    inputs = [("history", F, ["b", "l", DIM]), ("events", INT, ["b", "l"])]
    inputs += [("gaps", F, ["b", "l"]), ("mask", B, ["b", "l"])]
    constants = [("axis1", np.array([1], np.int64))]
    path = save(tmp_path / "other.onnx", nodes, inputs, [("user", F, ["b", DIM])], constants)
    assert OnnxUserTower(path, vectors, 5, 1).parts(encoded([1, 2, 3]), 120) is None


def test_tower_of_another_width_is_refused(tower_path):
    with pytest.raises(ArtifactError, match="4 wide, the run's vectors are 6"):
        OnnxUserTower(tower_path, np.zeros((3, 6), np.float32), 3, 1)


def test_lengths_must_agree(tower_path, vectors):
    with pytest.raises(ValueError, match="one length"):
        OnnxUserTower(tower_path, vectors, 3, 1).encode([encoded([1])], [])


@pytest.fixture
def ranker_path(tmp_path):
    nodes = [helper.make_node("ReduceSum", ["features", "axis"], ["score"], keepdims=0)]
    return save(
        tmp_path / "ranker.onnx",
        nodes,
        [("features", F, ["n", 3])],
        [("score", F, ["n"])],
        [("axis", np.array([1], np.int64))],
    )


def test_scorer_scores_rows_in_order(ranker_path):
    scorer = OnnxScorer(ranker_path, threads=1)
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_allclose(scorer.score(features), features.sum(axis=1))
    np.testing.assert_allclose(scorer.score(np.asfortranarray(features)), features.sum(axis=1))
    assert scorer.num_features == 3
    assert scorer.score(features[:0]).shape == (0,)
    with pytest.raises(ValueError, match="features must be"):
        scorer.score(features[:, :2])


def test_bad_files_are_artifact_errors(tmp_path, ranker_path, vectors):
    with pytest.raises(ArtifactError, match="no model"):
        OnnxScorer(tmp_path / "missing.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"<html>")
    with pytest.raises(ArtifactError, match="not a readable ONNX model"):
        OnnxScorer(tmp_path / "broken.onnx")
    with pytest.raises(ArtifactError, match="takes the inputs"):
        OnnxUserTower(ranker_path, vectors, 3)


@pytest.fixture
def text_paths(tmp_path):
    """vector = (sum of token ids, number of tokens), so padding would show."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["total"], keepdims=1),
        helper.make_node("ReduceSum", ["attention_mask", "axis"], ["count"], keepdims=1),
        helper.make_node("Concat", ["total", "count"], ["both"], axis=1),
        helper.make_node("Cast", ["both"], ["vector"], to=F),
    ]
    path = save(
        tmp_path / "text_encoder.onnx",
        nodes,
        [("input_ids", INT, ["b", "t"]), ("attention_mask", INT, ["b", "t"])],
        [("vector", F, ["b", 2])],
        [("axis", np.array([1], np.int64))],
    )
    words = {"[PAD]": 7, "[UNK]": 1, "red": 2, "lamp": 3, "灯": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=16)  # what a saved tokenizer may carry; the encoder does its own
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return path, tmp_path / "tokenizer.json"


def test_texts_keep_their_order_and_are_cut(text_paths, monkeypatch):
    monkeypatch.setattr("recsys.scorer._TEXT_BATCH_TOKENS", 4)
    encoder = OnnxTextEncoder(*text_paths, max_tokens=3, threads=1)
    texts = ["red lamp", "", "lamp", "red red red red red", "灯 what", "lamp"]
    np.testing.assert_array_equal(encoder.encode(texts), [[5, 2], [0, 0], [3, 1], [6, 3], [5, 2], [3, 1]])
    assert encoder.encode([]).shape == (0, 2)


def test_broken_tokenizer_is_an_artifact_error(text_paths):
    path, tokenizer = text_paths
    with pytest.raises(ArtifactError, match="no tokenizer"):
        OnnxTextEncoder(path, tokenizer.with_name("none.json"), 8)
    tokenizer.write_text("{}")
    with pytest.raises(ArtifactError, match="not a readable tokenizer"):
        OnnxTextEncoder(path, tokenizer, 8)
