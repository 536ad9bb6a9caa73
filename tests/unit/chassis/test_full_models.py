"""A full model out of the registry is a whole folder under its digest, fetched once, or it is not there."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.full_models import FullModel, FullModels
from services.chassis.model_cache import digest_of
from services.chassis.models import resolve
from services.chassis.streams import Piece
from tests.small_disk import small_disk

BLOCK = 300_000


class Registry:
    """Serves bytes by digest and counts; ``cut`` ends each download after so many bytes with a failure."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self._by_digest = {hashlib.sha256(content).hexdigest(): content for content in contents.values()}
        self.asked: list[tuple[str, int]] = []
        self.cut: int | None = None

    async def download(self, sha256: str, offset: int) -> AsyncIterator[Piece]:
        self.asked.append((sha256, offset))
        content = self._by_digest[sha256]
        sent = 0
        while offset < len(content):
            if self.cut is not None and sent >= self.cut:
                raise Failure(Reason.PEER_UNAVAILABLE, service="registry")
            await asyncio.sleep(0)
            piece = content[offset : offset + BLOCK]
            yield Piece(offset, piece)
            offset += len(piece)
            sent += len(piece)


def contents(fill: bytes = b"w", size: int = 1_000_000) -> dict[str, bytes]:
    config = json.dumps({"architectures": ["LlamaForCausalLM"]}).encode()
    return {"config.json": config, "model.safetensors": fill * size, "tokenizer.json": b"{}"}


def version_of(files: dict[str, bytes], base_digest: str = "") -> tuple[str, str]:
    """Id and manifest of a version that holds ``files``."""
    listed = [
        {"filename": name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name, content in sorted(files.items())
    ]
    digest = base_digest or digest_of({str(file["filename"]): str(file["sha256"]) for file in listed})
    document = {"kind": "FULL", "model": "own", "tenant": "acme", "base_digest": digest, "files": listed}
    text = json.dumps(document)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", text


def model_of(files: dict[str, bytes]) -> FullModel:
    return FullModel.of_manifest(*version_of(files))


async def test_the_folder_has_the_digest_that_the_same_folder_has_by_its_path(tmp_path: Path) -> None:
    files = contents()
    fetched = await FullModels(tmp_path / "cache").obtain(model_of(files), Registry(files).download)
    own = tmp_path / "own"
    own.mkdir()
    for name, content in files.items():
        (own / name).write_bytes(content)
    assert fetched.digest == resolve(f"file:{own}", cache=tmp_path / "cache").digest
    assert resolve(f"file:{fetched.path}", cache=tmp_path / "cache").digest == fetched.digest
    assert {path.name: path.read_bytes() for path in fetched.path.iterdir()} == files


async def test_however_many_ask_it_is_fetched_once(tmp_path: Path) -> None:
    files = contents()
    registry = Registry(files)
    here, elsewhere = FullModels(tmp_path), FullModels(tmp_path)  # two processes share the folder like this
    async with asyncio.TaskGroup() as group:
        for models in (here, here, here, elsewhere, elsewhere):
            group.create_task(models.obtain(model_of(files), registry.download))
    assert len(registry.asked) == len(files)


async def test_an_interrupted_fetch_goes_on_where_it_was(tmp_path: Path) -> None:
    files = contents()
    registry = Registry(files)
    registry.cut = 2 * BLOCK
    with pytest.raises(Failure) as failure:
        await FullModels(tmp_path).obtain(model_of(files), registry.download)
    assert failure.value.reason is Reason.PEER_UNAVAILABLE
    assert FullModels(tmp_path).local(model_of(files).digest) is None
    registry.cut = None
    await FullModels(tmp_path).obtain(model_of(files), registry.download)
    weights = hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert [offset for sha256, offset in registry.asked if sha256 == weights] == [0, 2 * BLOCK]


async def test_bytes_that_are_not_the_manifests_never_get_a_name(tmp_path: Path) -> None:
    files = contents()
    model = model_of(files)
    liar = Registry(files)
    liar._by_digest[hashlib.sha256(files["model.safetensors"]).hexdigest()] = b"v" * len(files["model.safetensors"])
    with pytest.raises(Failure) as failure:
        await FullModels(tmp_path).obtain(model, liar.download)
    assert failure.value.reason is Reason.DIGEST_MISMATCH
    assert FullModels(tmp_path).local(model.digest) is None


@pytest.mark.parametrize("wrong", ["manifest", "kind", "digest", "filename"])
def test_a_manifest_that_does_not_hold_together_is_refused(wrong: str) -> None:
    files = contents()
    version, text = version_of(files)
    if wrong == "manifest":
        text = text.replace("acme", "evil")
    elif wrong == "digest":
        version, text = version_of(files, base_digest=f"sha256:{'0' * 64}")
    else:
        text = text.replace('"FULL"', '"LORA"') if wrong == "kind" else text.replace("tokenizer.json", "../x.json")
        version = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    with pytest.raises(Failure) as failure:
        FullModel.of_manifest(version, text)
    assert failure.value.reason is Reason.WEIGHTS_REFUSED


async def test_over_the_bound_the_longest_unused_goes_but_never_one_in_use(tmp_path: Path) -> None:
    models = FullModels(tmp_path, max_bytes=2_500_000)
    first, second, third = contents(b"1"), contents(b"2"), contents(b"3")
    async with models.using(model_of(first), Registry(first).download) as held:
        second_folder = (await models.obtain(model_of(second), Registry(second).download)).path
        os.utime(held.path, (1, 1))
        os.utime(second_folder, (2, 2))
        await models.obtain(model_of(third), Registry(third).download)
        assert held.path.is_dir()
        assert not second_folder.exists()
    os.utime(held.path, (1, 1))
    await models.obtain(model_of(second), Registry(second).download)
    assert not held.path.exists()


async def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    files = contents(size=2_000_000)
    registry = Registry(files)
    with small_disk(tmp_path / "small", "66m") as small:
        filler = small / "filler"
        filler.write_bytes(bytes(1_000_000))
        with pytest.raises(Failure) as failure:
            await FullModels(small).obtain(model_of(files), registry.download)
        assert failure.value.reason is Reason.DISK_FULL
        assert registry.asked == []
        filler.unlink()
        with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.DISK_FULL):
            await FullModels(small).obtain(model_of(contents(size=3_000_000)), registry.download)
