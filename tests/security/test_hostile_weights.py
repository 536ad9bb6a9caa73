"""Promise 5: hostile files are refused with a reason, quickly, and never executed.

The code that judges them runs here on each of them; a sample of them is published, so that a limited child judges them.
"""

import gc
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from trivium.registry.v1 import model_pb2, registry_pb2

from services.registry.inspection import Unfit
from services.registry.inspection.child import judge
from tests.adapters import Adapter, digest, floats, safetensors
from tests.harness.processor_time import least_seconds
from tests.harness.trap import Trap, was_sprung
from tests.harness.wording import missing
from tests.stack import Stack, User, refused

# Of the child that judges; wall time is the machine's, not the file's.
REFUSED_WITHIN_CPU_SECONDS = 1.0
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
M = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"
BIAS = "base_model.model.model.layers.0.self_attn.q_proj.bias"
NORM = "base_model.model.model.norm.weight"
TOKENS = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return buffer.getvalue()


def tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("data.pkl"), io.BytesIO(content))
    return buffer.getvalue()


def raw(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def entry(dtype: str, shape: list, start: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def changed(**parts) -> dict[str, bytes]:
    """The files of a good adapter with its tensors or header replaced."""
    tensors = {**Adapter().tensors(), **parts.pop("tensors", {})}
    return {**Adapter().files(), WEIGHTS: safetensors(tensors, **parts)}


def with_config(**keys) -> dict[str, bytes]:
    return Adapter(config=keys).files()


def bits(dtype: str, width: int, pattern: int) -> dict[str, bytes]:
    """An adapter of another dtype whose last number is a bit pattern."""
    shapes = {A: [2, 6], B: [4, 2]}
    tensors = {}
    for name, shape in shapes.items():
        content = bytearray(shape[0] * shape[1] * width)
        if name == B:
            content[-width:] = pattern.to_bytes(width, "little")
        tensors[name] = (dtype, shape, bytes(content))
    return {**Adapter().files(), WEIGHTS: safetensors(tensors)}


def many_modules(count: int) -> bytes:
    """A weights file of this many modules of rank 1, each with its A and B of four bytes."""
    places = [
        (f"base_model.model.m{number}.lora_{part}.weight", number, part) for number in range(count) for part in "AB"
    ]
    header = {name: entry("F32", [1, 1], 4 * at, 4 * at + 4) for at, (name, _, _) in enumerate(places)}
    return raw(json.dumps(header).encode(), bytes(4 * len(places)))


def many_beside(count: int, part: str, last: str = "", **config: object) -> dict[str, bytes]:
    """A good adapter with this many tensors of a kind beside its own, each on a module that ends alike."""
    tensors = {f"base_model.model.x{number}.a.{part}": ("F32", [1], bytes(4)) for number in range(count)}
    if last:
        tensors[last] = ("F32", [1], bytes(4))
    return {**with_config(**config), WEIGHTS: safetensors({**Adapter().tensors(), **tensors})}


PICKLE = pickle.dumps(Trap())
HOSTILE = {
    "a pickle": ({**Adapter().files(), WEIGHTS: PICKLE}, "a pickle in place of safetensors"),
    "an old pickle": ({**Adapter().files(), WEIGHTS: pickle.dumps(Trap(), 0)}, "safetensors"),
    "a torch archive": ({**Adapter().files(), WEIGHTS: zipped(PICKLE)}, "a pickle in place of safetensors"),
    "a tar": ({**Adapter().files(), WEIGHTS: tarred(PICKLE)}, "safetensors"),
    "a gzip": ({**Adapter().files(), WEIGHTS: b"\x1f\x8b" + bytes(100)}, "gzip"),
    "nothing": ({**Adapter().files(), WEIGHTS: b""}, "too few"),
    "a header beyond the file": ({**Adapter().files(), WEIGHTS: raw(b"{}", length=1 << 20)}, "announces a header"),
    "a header of 2^63 bytes": ({**Adapter().files(), WEIGHTS: raw(b"{}", length=1 << 63)}, "announces a header"),
    "a header that is no object": ({**Adapter().files(), WEIGHTS: raw(b"[1, 2]")}, "begin with '{'"),
    "a header of brackets": ({**Adapter().files(), WEIGHTS: raw(b'{"a":' + b"[" * 200_000)}, "not JSON"),
    "a number of a million digits": (
        {**Adapter().files(), WEIGHTS: raw(b'{"a":{"dtype":"F32","shape":[' + b"9" * 1_000_000 + b"]}}")}, "not JSON",
    ),
    "a header of three million lists": (
        {**Adapter().files(), WEIGHTS: raw(b'{"a":[' + b"[]," * 3_000_000 + b"1]}")}, "more entries",
    ),
    "a header of a million names": (
        {**Adapter().files(), WEIGHTS: raw(b"{" + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}")},
        "more entries",
    ),
    "a configuration of five megabytes": ({**Adapter().files(), CONFIG: b"[" + b" " * (5 << 20) + b"]"}, "that its JSON may have"),
    "a tokenizer of two million lists": (
        {**Adapter().files(), "tokenizer.json": b'{"a":[' + b"[]," * 2_000_000 + b"1]}"}, "more lists",
    ),
    "a pattern of thousands over thousands of modules": (
        {**with_config(r=2, rank_pattern={f"x{number}": 4 for number in range(4_000)}), WEIGHTS: many_modules(8_000)},
        "has rank 1, adapter_config.json says 2",
    ),
    "a path of a hundred modules": (
        changed(tensors={f"base_model.model{'.a' * 100}.lora_A.weight": ("F32", [2, 6], bytes(48)),
                         f"base_model.model{'.a' * 100}.lora_B.weight": ("F32", [4, 2], bytes(32))}),
        "modules deep",
    ),
    "a key twice": ({**Adapter().files(), WEIGHTS: raw(b'{"a": 1, "a": 2}')}, "twice"),
    "an infinite number in the header": ({**Adapter().files(), WEIGHTS: raw(b'{"a": Infinity}')}, "Infinity"),
    "negative offsets": (changed(header={A: entry("F32", [2, 6], -48, 0)}), "offsets"),
    "offsets of 2^70": (changed(header={A: entry("F32", [2, 6], 1 << 70, (1 << 70) + 48)}), "offsets"),
    "overlapping tensors": (changed(header={B: entry("F32", [4, 2], 16, 48)}), "overlaps"),
    "a hole": (changed(header={B: entry("F32", [4, 2], 64, 96)}), "hole"),
    "trailing bytes": ({**Adapter().files(), WEIGHTS: safetensors(Adapter().tensors()) + b"x"}, "trailing"),
    "missing bytes": (
        {**Adapter().files(), WEIGHTS: safetensors(Adapter().tensors())[:-1]},
        "1 missing bytes: it is cut off; copy it again",
    ),
    "a header that is cut off": (
        {**Adapter().files(), WEIGHTS: safetensors(Adapter().tensors())[:40]}, "it is cut off; copy it again",
    ),
    "a negative size": (changed(header={A: entry("F32", [-2, -6], 0, 48)}), "shape"),
    "true for a size": (changed(header={A: entry("F32", [True, 12], 0, 48)}), "shape"),
    "a shape that does not fit": (changed(header={A: entry("F32", [2, 7], 0, 48)}), "does not fit"),
    "nine dimensions": (changed(header={A: entry("F32", [1] * 7 + [2, 6], 0, 48)}), "shape"),
    "an unknown dtype": (changed(header={A: entry("F31", [2, 6], 0, 48)}), "dtype"),
    "a field too many": (changed(header={A: {**entry("F32", [2, 6], 0, 48), "exec": "x"}}), "exactly"),
    "metadata that is no text": (changed(header={"__metadata__": {"a": 1}}), "__metadata__"),
    "integers as weights": (
        {**Adapter().files(), WEIGHTS: safetensors({A: ("I32", [2, 6], bytes(48)), B: ("I32", [4, 2], bytes(32))})},
        "dtype",
    ),
    "NaN": (changed(tensors={B: ("F32", [4, 2], floats([0.0] * 7 + [float("nan")]))}), "NaN"),
    "infinity": (changed(tensors={B: ("F32", [4, 2], floats([0.0] * 7 + [float("-inf")]))}), "NaN or infinity"),
    "NaN in bf16": (bits("BF16", 2, 0x7FC0), "NaN"),
    "infinity in bf16": (bits("BF16", 2, 0xFF80), "NaN or infinity"),
    "NaN in fp16": (bits("F16", 2, 0x7E00), "NaN"),
    "another rank than the configuration's": (with_config(r=4), "rank"),
    "ranks of A and B that differ": (
        changed(tensors={B: ("F32", [2, 4], floats([0.0] * 8))}), "rank",
    ),
    "A without B": ({**Adapter().files(), WEIGHTS: safetensors({A: Adapter().tensors()[A]})}, "lacks its B"),
    "a tensor that is no adapter's": (changed(tensors={"lm_head.weight": ("F32", [1], floats([1.0]))}), "not the name"),
    "a module path with a slash": (
        changed(tensors={"base_model.model.../etc.lora_A.weight": ("F32", [2, 6], bytes(48))}), "not the name",
    ),
    "no tensors": ({**Adapter().files(), WEIGHTS: safetensors({})}, "no tensors"),
    "no configuration": ({WEIGHTS: Adapter().files()[WEIGHTS]}, "adapter_config.json"),
    "a configuration that is no JSON": ({**Adapter().files(), CONFIG: b"{r: 2}"}, "not JSON"),
    "a configuration that is a list": ({**Adapter().files(), CONFIG: b"[]"}, "not an object"),
    "a configuration of brackets": ({**Adapter().files(), CONFIG: b"[" * 500_000}, "not JSON"),
    "code to load": (with_config(auto_mapping={"base_model_class": "x"}), "asks for code"),
    "code to load, deep inside": (with_config(exclude_modules=[{"a": {"auto_map": {"AutoModel": "x.Y"}}}]), "asks for code"),
    "trust_remote_code": (with_config(trust_remote_code=True), "asks for code"),
    "an unknown option": (with_config(surprise="x"), "not accepted"),
    "another method": (with_config(peft_type="IA3"), "only LORA"),
    "biases of no kind": (with_config(bias="some"), "bias must be"),
    "DoRA without its magnitudes": (with_config(use_dora=True), "lacks its magnitude"),
    "magnitudes without DoRA": (changed(tensors={M: ("F32", [4], floats([1.0] * 4))}), "use_dora is off"),
    "a bias that nobody asked for": (changed(tensors={BIAS: ("F32", [4], bytes(16))}), "sets no bias"),
    "a norm that nobody asked for": (changed(tensors={NORM: ("F32", [6], bytes(24))}), "sets no modules_to_save"),
    "tokens that nobody asked for": (changed(tensors={TOKENS: ("F32", [1, 6], bytes(24))}), "sets no trainable_token"),
    "many modules of many tokens": (
        many_beside(
            3000, "token_adapter.trainable_tokens_delta", trainable_token_indices={"a": list(range(300_000))}
        ),
        "only model.embed_tokens and lm_head have tokens",
    ),
    "many modules among many to save": (
        many_beside(3000, "weight", "base_model.model.z.weight", modules_to_save=["a"] * 500_000),
        "sets no modules_to_save",
    ),
    "numbers so large that answers are none": (
        changed(tensors={A: ("F32", [2, 6], floats([1e30] * 12)), B: ("F32", [4, 2], floats([1e30] * 8))}),
        "answers could be infinite",
    ),
    "modules that are no list": (with_config(modules_to_save="all"), "modules_to_save must be"),
    "tokens that are none": (with_config(trainable_token_indices=["a"]), "trainable_token_indices must be"),
    "a token twice": (with_config(trainable_token_indices=[4, 4]), "different tokens"),
    "an adapter that needs another base than it names": (with_config(init_lora_weights="pissa_niter_4"), "changes the base"),
    "rank zero": (with_config(r=0), "r must be"),
    "a rank of a billion": (with_config(r=10**9), "r must be"),
    "a rank that is text": (with_config(r="2"), "r must be"),
    "a rank of nothing for one module": (
        {
            **with_config(rank_pattern={"q_proj": 0}),
            WEIGHTS: safetensors({A: ("F32", [0, 6], b""), B: ("F32", [4, 0], b"")}),
        },
        "rank_pattern must hold whole numbers",
    ),
    "alpha that is not a number": (with_config(lora_alpha="x"), "lora_alpha"),
    "a second weights file": ({**Adapter().files(), "more.safetensors": safetensors({})}, "exactly one weights file"),
}  # fmt: skip


def inspections_cpu_seconds(stack: Stack) -> float:
    """CPU time that the children which judged uploads have used so far, of a registry that has no other children."""
    times = psutil.Process(stack.registry.pid).cpu_times()
    return float(times.children_user + times.children_system)


def refused_in_time(stack: Stack, user: User, files: dict[str, bytes]) -> str:
    """Publish files that are refused within the bound; return the refusal's message."""
    messages = []

    def published() -> float:
        before = inspections_cpu_seconds(stack)
        with refused("WEIGHTS_REFUSED") as failures:
            user.publish("m", files)
        messages.append(failures[0].message)
        return inspections_cpu_seconds(stack) - before

    assert least_seconds(REFUSED_WITHIN_CPU_SECONDS, published) < REFUSED_WITHIN_CPU_SECONDS
    return messages[-1]


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Keep what the lane holds out of collections: the child that judges is young, and would not walk through it."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_adapter_is_refused_with_its_reason_within_a_second_of_cpu(tmp_path: Path, kind: str):
    files, sentence = HOSTILE[kind]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    task = {"kind": "LORA", "files": {name: str(tmp_path / name) for name in files}, "base_shapes": None}

    def judged() -> float:
        before = time.thread_time()  # a lane has other threads
        with pytest.raises(Unfit, match=re.escape(sentence)):
            judge(task)
        return time.thread_time() - before

    assert least_seconds(REFUSED_WITHIN_CPU_SECONDS, judged) < REFUSED_WITHIN_CPU_SECONDS
    assert not was_sprung()


@pytest.mark.sampled(every=8)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_adapter_that_is_published_is_refused_by_a_limited_child(stack: Stack, user: User, kind: str):
    files, sentence = HOSTILE[kind]
    message = refused_in_time(stack, user, files)
    assert sentence in message
    assert "/" not in message.replace("NaN or infinity", "").replace("../etc", "")
    assert not was_sprung()


def test_the_trap_springs_where_a_pickle_is_read():
    """The tests above would hold of a trap that does nothing."""
    pickle.loads(PICKLE)
    assert was_sprung()
    assert not was_sprung()


def test_a_refused_version_leaves_no_model_and_no_event(user: User):
    with refused("WEIGHTS_REFUSED"):
        user.publish("m", changed(tensors={B: ("F32", [4, 2], floats([float("nan")] * 8))}))
    with refused("MODEL_NOT_FOUND"):
        user.resolve("m")
    assert not user.events_so_far()


def test_a_pickle_is_refused_with_its_first_chunk(user: User):
    content = PICKLE + bytes(8 << 20)
    with refused("WEIGHTS_REFUSED") as failures:
        user.upload(WEIGHTS, content)
    assert not missing(failures[0].variables["problem"], "pickle", "safetensors")
    kept = user.api.GetUpload(registry_pb2.GetUploadRequest(sha256=digest(content))).status
    assert kept.committed_bytes == 0


def test_a_full_model_that_brings_code_is_refused(user: User):
    weights = safetensors({"w": ("F32", [1], floats([1.0]))})
    for config, sentence in (
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "asks for code"),
        ([], "needs config.json"),
    ):
        files = {"model.safetensors": weights, "config.json": json.dumps(config).encode()}
        with refused("WEIGHTS_REFUSED") as failures:
            user.publish("m", files, kind=model_pb2.VERSION_KIND_FULL, base_digest="")
        assert sentence in failures[0].message


def test_options_that_say_nothing_are_accepted(user: User):
    off: dict[str, object] = {
        "megatron_config": None,
        "loftq_config": {},
        "use_qalora": False,
        "megatron_core": "megatron.core",
    }
    assert user.publish("m", with_config(**off)).rank == 2


def test_a_rank_of_its_own_for_one_module_is_accepted(user: User):
    adapter = Adapter(rank=4, config={"r": 2, "rank_pattern": {"q_proj": 4}})
    assert user.publish("m", adapter.files()).number == 1


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_half_precision_is_accepted(user: User, dtype: str):
    assert user.publish("m", bits(dtype, 2, 0x3C00)).parameters == 20


def test_the_cpu_of_an_inspection_is_seen(stack: Stack, user: User):
    """The bound above would hold for nothing at all: here a child worked, and its time shows."""
    before = inspections_cpu_seconds(stack)
    user.publish("m")
    assert inspections_cpu_seconds(stack) > before


def test_a_header_of_ninety_thousand_lies_is_refused(stack: Stack, user: User):
    header = json.dumps({f"t{number}": entry("F32", [1], 0, 4) for number in range(90_000)}).encode()
    assert "overlaps" in refused_in_time(stack, user, {**Adapter().files(), WEIGHTS: raw(header, bytes(4))})


def test_the_child_that_judges_is_bounded():
    """What the child may use is set before it reads a byte: here it is asked for its own limits."""
    program = (
        "import resource; from services.registry.inspection.child import limit_this_process as limit; limit();"
        "print(*(resource.getrlimit(getattr(resource, 'RLIMIT_' + n))[1] for n in ('FSIZE', 'CORE', 'NPROC', 'NOFILE')))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["0", "0", "0", "32"]
