"""A whole run directory in milliseconds: made-up vectors and a user tower that averages them."""

from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from scipy import sparse
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from recsys.artifacts import Manifest, record_files, write_array, write_atomically, write_manifest
from recsys.augment.online_side import write_online
from recsys.augment.policy import load_policy
from recsys.config import Config, IndexConfig
from recsys.contexts import Contexts
from recsys.index import build_index, write_index
from recsys.item_facts import FACTS
from recsys.lexical import LexicalIndex
from recsys.loading import FACTS_FILE, ITEMS, USERS, WEIGHTS, write_newcomers, write_weights
from recsys.scorer import OnnxTextEncoder
from recsys.snapshot import USER_FIELDS

DAY = 86_400


def write_run(
    run: Path,
    moment: int,
    num_items: int = 60,
    dim: int = 16,
    num_users: int = 5,
    online: dict | None = None,
) -> Path:
    """User `u<n>` bought the items n and n + 1 a day before `moment`; titles are `Item <row>`.

    Its text encoder gives each word a direction of its own and a text the mean of them.

    With `online`, the stage of that name of the manifest, the run stores what requests are augmented with.
    """
    run.mkdir(parents=True)
    draws = np.random.default_rng(7)
    vectors = draws.normal(size=(num_items, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for name in ("item_vectors", "history_vectors"):
        write_array(run / f"{name}.npy", vectors)
    _write_text_side(run, num_items, dim)
    facts = np.zeros(num_items, FACTS)
    facts["count"] = np.arange(num_items, 0, -1)
    facts["count_30d"], facts["in_stock"] = facts["count"], True
    facts["first_seen"] = moment - 100 * DAY
    facts["available_from"] = facts["came_out"] = np.nan
    facts["log_price"] = 1.0
    write_array(run / FACTS_FILE, facts)
    _write_items(run / ITEMS, num_items)
    _write_users(run / USERS, moment, num_users, num_items)
    for name in WEIGHTS:
        write_weights(run, name, sparse.random(num_items, num_items, 0.1, "csr", np.float32, 3))
    write_newcomers(run, np.eye(5, dtype=np.float32)[0], np.zeros(num_items, np.float32))
    index, facts_of_index = build_index(vectors, IndexConfig(), seed=0, threads=1)
    write_index(index, run / "index.faiss")
    _write_mean_tower(run / "user_tower.onnx", dim)
    config = Config()
    stages = {"index": facts_of_index, "export": {"moment": moment}}
    if online is not None:
        write_online(run, load_policy(config.online.policy), shop_contexts(moment, num_items), num_items)
        stages["online"] = online
    write_atomically(run / "config.toml", config.to_toml())
    manifest = Manifest(
        run_id=run.name,
        created="2026-01-01T00:00:00Z",
        finished="2026-01-01T01:00:00Z",
        config_digest=config.digest(),
        stages=stages,
    )
    record_files(run, manifest, [path.name for path in run.iterdir() if path.is_file()])
    write_manifest(run, manifest)
    return run


def shop_contexts(moment: int, num_items: int) -> Contexts:
    """Two rounds of users, each with three items in a row and the next one as the target."""
    users = 2 * num_items
    rows = (np.arange(users)[:, None] + np.arange(4)) % num_items
    return Contexts(
        user_ids=np.array([f"t{user}" for user in range(users)]),
        moments=np.full(users, moment - DAY, np.int64),
        history_offsets=3 * np.arange(users + 1, dtype=np.int64),
        history_rows=rows[:, :3].reshape(-1).astype(np.int64),
        history_events=np.zeros(3 * users, np.int64),
        history_timestamps=np.tile(moment - DAY * np.arange(4, 1, -1), users).astype(np.int64),
        target_offsets=np.arange(users + 1, dtype=np.int64),
        target_rows=rows[:, 3].astype(np.int64),
        target_weights=np.ones(users, np.float32),
        weights=np.ones(users, np.float32),
        parents=np.full(users, -1, np.int64),
    )


def _write_items(path: Path, num_items: int) -> None:
    rows = range(num_items)
    table = {
        "item_id": [f"i{row}" for row in rows],
        "title": [f"Item {row}" for row in rows],
        "category": ["all"] * num_items,
        "brand": [""] * num_items,
        "price": [2.5] * num_items,
    }
    pq.write_table(pa.table(table), path)


def _write_users(path: Path, moment: int, num_users: int, num_items: int) -> None:
    rows = []
    for n in range(num_users):
        items, times = [f"i{n % num_items}", f"i{(n + 1) % num_items}"], [moment - DAY, moment - DAY + 60]
        row = dict.fromkeys(USER_FIELDS, 1.0) | {
            "user_id": f"u{n}",
            "item_ids": items,
            "event_types": ["purchase"] * 2,
            "timestamps": times,
            "num_events": 2,
            "last_timestamp": times[-1],
            "owned_item_ids": items,
            "owned_counts": [1, 1],
            "owned_last_timestamps": times,
        }
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _write_text_side(run: Path, num_items: int, dim: int) -> None:
    titles = [f"Item {row}" for row in range(num_items)]
    words = {"[PAD]": 0, "[UNK]": 1, "item": 2, **{str(row): row + 3 for row in range(num_items)}}
    table = np.random.default_rng(11).normal(size=(len(words), dim)).astype(np.float32)
    table[:2] = 0
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["states"]),
        helper.make_node("Cast", ["attention_mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["m", "last"], ["m3"]),
        helper.make_node("Mul", ["states", "m3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["total"], keepdims=0),
        helper.make_node("LpNormalization", ["total"], ["vector"], axis=1, p=2),
    ]
    constants = {"table": table, "last": np.array([2], np.int64), "middle": np.array([1], np.int64)}
    graph = helper.make_graph(
        nodes,
        "words",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["b", dim])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, run / "text_encoder.onnx")
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (run / "tokenizer").mkdir()
    tokenizer.save(str(run / "tokenizer" / "tokenizer.json"))
    encoder = OnnxTextEncoder(run / "text_encoder.onnx", run / "tokenizer" / "tokenizer.json", 64, 1)
    write_array(run / "text_vectors.npy", encoder.encode(titles))
    LexicalIndex.build(titles).write(run)


def _write_mean_tower(path: Path, dim: int) -> None:
    nodes = [
        helper.make_node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["events"], ["e"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["e", "gaps"], ["unused"]),  # inputs that no node reads would be dropped
        helper.make_node("Mul", ["unused", "zero"], ["nothing"]),
        helper.make_node("Add", ["m", "nothing"], ["w"]),
        helper.make_node("Unsqueeze", ["w", "last"], ["w3"]),
        helper.make_node("Mul", ["history", "w3"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "middle"], ["total"], keepdims=0),
        helper.make_node("LpNormalization", ["total"], ["user"], axis=1, p=2),
    ]
    inputs = [
        ("history", TensorProto.FLOAT, ["b", "l", dim]),
        ("events", TensorProto.INT64, ["b", "l"]),
        ("gaps", TensorProto.FLOAT, ["b", "l"]),
        ("mask", TensorProto.BOOL, ["b", "l"]),
    ]
    constants = {
        "zero": np.float32(0),
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info("user", TensorProto.FLOAT, ["b", dim])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
