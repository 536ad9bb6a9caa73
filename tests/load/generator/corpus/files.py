"""Classes of files that are not what they say: containers, headers, lengths, names."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable

from tests.harness.trap import Trap
from tests.load.generator.corpus.make import CONFIG, PREFIX, WEIGHTS, Files, Good, raw, split

Maker = Callable[[Good], Files]


def _whole(good: Good) -> bytes:
    return good.files()[WEIGHTS]


def _zip(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        # With a date of its own: the corpus is the same every time.
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), content)
    return buffer.getvalue()


def _tar(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("data.pkl"), io.BytesIO(content))
    return buffer.getvalue()


def _flipped(good: Good, first: int, last: int) -> Files:
    """Some bits between two places of the file are turned over."""
    content = bytearray(_whole(good))
    for _ in range(good.draw.randint(1, 8)):
        content[good.draw.randrange(first, min(last, len(content)))] ^= 1 << good.draw.randrange(8)
    return good.files(bytes(content))


def _header_bits(good: Good) -> Files:
    return _flipped(good, 8, 8 + len(split(_whole(good))[0]))


def _cut(good: Good) -> Files:
    whole = _whole(good)
    return good.files(whole[: good.draw.randrange(1, len(whole))])


def _length(good: Good) -> Files:
    header, body = split(_whole(good))
    lies = (
        0,
        1,
        7,
        len(header) - 1,
        len(header) + 1,
        len(header) + len(body),
        1 << 31,
        1 << 32,
        1 << 62,
        (1 << 64) - 1,
    )
    return good.files(raw(header, body, good.draw.choice(lies)))


def _header(*texts: bytes) -> Maker:
    return lambda good: good.files(raw(good.draw.choice(texts), split(_whole(good))[1]))


def _twice(good: Good) -> Files:
    header, body = split(_whole(good))
    return good.files(raw(header[:-1] + b"," + header[1:], body))


def _metadata(good: Good) -> Files:
    header, body = split(_whole(good))
    values: tuple[object, ...] = ({"a": 1}, {"a": {"b": "c"}}, [], "x", {"format": None}, {"k" * 5000: "v" * 200_000})
    entries = {"__metadata__": good.draw.choice(values), **json.loads(header)}
    return good.files(raw(json.dumps(entries).encode(), body))


def _many(good: Good) -> Files:
    count = good.draw.choice((20_001, 50_000, 90_000))
    entries = {f"t{number}": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]} for number in range(count)}
    return good.files(raw(json.dumps(entries).encode(), bytes(4)))


def _named(good: Good) -> Files:
    names = (
        "../../../etc/passwd", "a/b\\c", "x\x00y", "\u202egpj.exe", "n" * 100_000, "", " ", "lora_A.weight",
        "model.layers.0.self_attn.q_proj.weight", f"{PREFIX}{PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight",
        f"{PREFIX}model.layers.-1.self_attn.q_proj.lora_A.weight", good.name() + ".weight", good.name().upper(),
        f"{PREFIX}model.layers.0.self_attn.q_proj.lora_A.default.weight", f"{PREFIX}__class__.lora_A.weight",
    )  # fmt: skip
    return good.with_tensors({good.draw.choice(names): good.entry(), good.name(): None})


def _instead(good: Good) -> Files:
    name = good.draw.choice(("adapter_model.bin", "adapter_model.pt", "pytorch_model.bin", "model.ckpt"))
    return {name: pickle.dumps(Trap()), CONFIG: good.config()}


def _beside(good: Good) -> Files:
    name = good.draw.choice((
        "adapter_model.bin", "more.safetensors", "optimizer.pt", "modeling.py", "setup.sh", "added_tokens.json",
        "training_args.bin", "../escape.safetensors", "/etc/absolute", ".hidden", "a" * 300, "x\x00y",
    ))  # fmt: skip
    return good.files() | {name: good.draw.choice((pickle.dumps(Trap()), _whole(good), b"#!/bin/sh\n"))}


def _magic(good: Good) -> Files:
    magics = (
        b"GGUF\x03\x00\x00\x00",
        b"\x7fELF\x02\x01\x01",
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
        b"%PDF-1.7",
        b"\x93NUMPY",
    )
    return good.files(good.draw.choice(magics) + good.draw.randbytes(4000))


FILES: dict[str, Maker] = {
    "nothing in the file": lambda good: good.files(b""),
    "fewer bytes than a length": lambda good: good.files(good.draw.randbytes(good.draw.randint(1, 9))),
    "random bytes": lambda good: good.files(good.draw.randbytes(good.draw.randint(10, 100_000))),
    "zeros": lambda good: good.files(bytes(good.draw.randint(8, 100_000))),
    "cut off": _cut,
    "bytes behind the end": lambda good: good.files(_whole(good) + good.draw.randbytes(good.draw.randint(1, 99))),
    "bits turned in the header": _header_bits,
    "a header of another length": _length,
    "a header that is no JSON": _header(b"{'a': 1}", b"{", b'{"a":', b"{]", b"\xff\xfe{}", b"{} {}"),
    "a header that is no object": _header(b"[1, 2]", b'"text"', b"null", b"3", b"[]"),
    "a header nested deep": _header(b'{"a":' + b"[" * 200_000, b'{"a":' * 100_000, b'{"a":' + b'{"b":' * 50_000),
    "a header of odd numbers": _header(
        b'{"a": Infinity}', b'{"a": NaN}', b'{"a": 1e999}', b'{"a": ' + b"9" * 300_000 + b"}"
    ),
    "a key twice in the header": _twice,
    "metadata of another shape": _metadata,
    "no tensors": _header(b"{}", b'{"__metadata__": {}}', b'{"__metadata__": {"format": "pt"}}'),
    "tens of thousands of tensors": _many,
    "tensors of other names": _named,
    "a pickle": lambda good: good.files(pickle.dumps(Trap(), good.draw.randint(0, 5))),
    "a zip of a pickle": lambda good: good.files(_zip(pickle.dumps(Trap()))),
    "a tar of a pickle": lambda good: good.files(_tar(pickle.dumps(Trap()))),
    "compressed": lambda good: good.files(gzip.compress(_whole(good), good.draw.randint(1, 9), mtime=0)),
    "another kind of file": _magic,
    "a pickle instead of weights": _instead,
    "a file beside the two": _beside,
    "no configuration file": lambda good: {WEIGHTS: _whole(good)},
}
