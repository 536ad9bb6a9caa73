"""Reads S3 buckets that the deployment opens to a tenant, with keys that only its settings know.

Invariant: endpoint, region and keys come from the settings of the bucket alone: neither a tenant's text nor the
environment of this process, which may hold the keys of something else, changes where or as whom a bucket is read.
"""

import fnmatch
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store
from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError, model_validator

from services.chassis.errors import Failure, Reason, Unstartable
from services.retriever.sources.addresses import refused
from services.retriever.sources.fetching import away, too_large, unreadable
from services.retriever.sources.reading import Fetched, Gone, Listed, Remembered, Unchanged

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Credential

SETTING = "TRIVIUM_RETRIEVER_BUCKETS"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}")
_PAGE = 500
_UNTOLD = ("application/octet-stream", "binary/octet-stream")
_RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


class Grant(BaseModel):
    """Buckets that some tenants may read, and how.  ``bucket`` and ``tenants`` are globs; ``prefix`` narrows it.

    The key is given itself or as a file's path; without one, requests are not signed: for buckets that everybody may
    read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    bucket: str
    tenants: tuple[str, ...]
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: SecretStr = SecretStr("")
    access_key_id_file: Path | None = None
    secret_access_key: SecretStr = SecretStr("")
    secret_access_key_file: Path | None = None
    virtual_hosted: bool = False

    @model_validator(mode="after")
    def _whole(self) -> "Grant":
        names = bool(self.access_key_id.get_secret_value() or self.access_key_id_file)
        secrets = bool(self.secret_access_key.get_secret_value() or self.secret_access_key_file)
        if names != secrets:
            raise ValueError("an access key needs its id and its secret")
        return self

    def fits(self, tenant: str, bucket: str, prefix: str) -> bool:
        """Whether the tenant may read below this prefix of the bucket."""
        below = not self.prefix or f"{prefix}/".startswith(f"{self.prefix.strip('/')}/")
        owned = any(fnmatch.fnmatchcase(tenant, glob) for glob in self.tenants)
        return below and owned and fnmatch.fnmatchcase(bucket, self.bucket)

    def credential(self) -> "S3Credential | None":
        """The key, read when it is needed, so that a file that is changed counts at once; None to sign nothing."""
        key_id = _secret(self.access_key_id, self.access_key_id_file)
        if not key_id:
            return None
        secret = _secret(self.secret_access_key, self.secret_access_key_file)
        return {"access_key_id": key_id, "secret_access_key": secret, "token": None, "expires_at": None}


def _secret(text: SecretStr, file: Path | None) -> str:
    return file.read_text().strip() if file is not None else text.get_secret_value()


def grants(text: str, file: Path | None) -> tuple[Grant, ...]:
    """The grants of a deployment, from JSON in a setting or in a file.  Raises Unstartable."""
    try:
        raw = json.loads(file.read_text() if file is not None else text or "[]")
        return tuple(TypeAdapter(list[Grant]).validate_python(raw))
    except (OSError, ValueError) as error:
        what = _problem(error)
        raise Unstartable(f"{SETTING} (or the file that {SETTING}_FILE names) cannot be used: {what}") from None


def _problem(error: Exception) -> str:
    """What is wrong with the setting, without what stands in it: keys."""
    if isinstance(error, ValidationError):
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in wrong)
    return (error.strerror or "it cannot be read") if isinstance(error, OSError) else "it is not JSON"


@dataclass(frozen=True, slots=True)
class Buckets:
    """What is opened to whom.  ``most_bytes`` is the largest object that is read, within ``seconds``."""

    grants: tuple[Grant, ...]
    most_bytes: int
    seconds: float

    def require(self, tenant: str, uri: str) -> str:
        """The URI as it is kept.  Raises SOURCE_NOT_ALLOWED unless it is open to the tenant."""
        bucket, prefix = _parts(uri)
        self._granted(tenant, uri)
        return f"s3://{bucket}/{prefix}"

    def opened(self, tenant: str, uri: str) -> "Bucket":
        """The prefix at this URI.  Raises SOURCE_NOT_ALLOWED, SOURCE_UNREADABLE."""
        bucket, prefix = _parts(uri)
        return Bucket(_store(self._granted(tenant, uri), bucket, uri, self.seconds), bucket, prefix, self.most_bytes)

    def _granted(self, tenant: str, uri: str) -> Grant:
        bucket, prefix = _parts(uri)
        grant = next((grant for grant in self.grants if grant.fits(tenant, bucket, prefix)), None)
        if grant is None:
            raise refused(uri, f"the operator opens no such bucket and prefix to this tenant in {SETTING}")
        return grant


@dataclass(frozen=True, slots=True)
class Bucket:
    """A prefix of a bucket, or one object.  Implements ``reading.Place``."""

    store: S3Store
    bucket: str
    prefix: str
    most_bytes: int

    async def pages(self) -> AsyncIterator[Sequence[Listed]]:
        """Objects below the prefix, by key; the object of that very key where there are none."""
        found = False
        with _named(self._uri(self.prefix)):
            async for page in obstore.list(self.store, prefix=self.prefix or None, chunk_size=_PAGE):
                found = found or bool(page)
                # A key that ends with a slash is how consoles show a folder.
                yield [self._listed(entry) for entry in page if not entry["path"].endswith("/")]
            if not found and self.prefix:
                yield [self._listed(await obstore.head_async(self.store, self.prefix))]

    async def read(self, listed: Listed, known: Remembered | None) -> Fetched | Unchanged | Gone:
        """One object.  Raises SOURCE_UNREADABLE and SOURCE_AWAY."""
        key = listed.uri.removeprefix(f"s3://{self.bucket}/")
        remembered = listed.remembered
        assert remembered is not None, "a bucket tells of each object what it is"
        if remembered.size_bytes > self.most_bytes:
            raise too_large(listed.uri, self.most_bytes)
        try:
            with _named(listed.uri):
                got = await obstore.get_async(self.store, key)
                if got.meta["size"] > self.most_bytes:
                    raise too_large(listed.uri, self.most_bytes)
                content = bytes(await got.bytes_async())
        except _NoObject:
            return Gone("it was deleted while its bucket was read")
        said = str(got.attributes.get("Content-Type", ""))
        return Fetched(content, "" if said in _UNTOLD else said[:127], _remembered(got.meta))

    def _listed(self, entry: "ObjectMeta") -> Listed:
        return Listed(self._uri(entry["path"]), _remembered(entry))

    def _uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


def _remembered(entry: "ObjectMeta") -> Remembered:
    return Remembered((entry["e_tag"] or "")[:256], entry["last_modified"].isoformat(), entry["size"])


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    # Of a bucket in a host's place, a sign of a URL would make another host.
    plain = _BUCKET.fullmatch(bucket) and uri.isprintable()
    if not plain or any(part in (".", "..") for part in prefix.split("/")):
        raise refused("s3://…", "it is not written as s3://BUCKET/PREFIX")
    return bucket, prefix.strip("/")


def _store(grant: Grant, bucket: str, uri: str, seconds: float) -> S3Store:
    try:
        credential = grant.credential()
    except OSError:
        raise unreadable(uri, "the operator's file with the key of its bucket cannot be read") from None
    signed: dict[str, Any] = {"skip_signature": True}
    if credential is not None:
        signed = {"credential_provider": lambda: credential, "skip_signature": False}
    return S3Store(
        bucket,
        endpoint=grant.endpoint or f"https://s3.{grant.region}.amazonaws.com",
        region=grant.region,
        virtual_hosted_style_request=grant.virtual_hosted,
        client_options={"timeout": timedelta(seconds=seconds), "allow_http": grant.endpoint.startswith("http://")},
        retry_config=_RETRIES,
        **signed,
    )


class _NoObject(Failure):
    """An object that a listing named is not there."""


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Turn what a bucket fails with, inside the block, into what its owner can be told; never its own words."""
    try:
        yield
    except (FileNotFoundError, NotFoundError) as error:
        problem = "there is no such bucket or object"
        raise _NoObject(Reason.SOURCE_UNREADABLE, uri=uri, problem=problem) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise unreadable(uri, f"its bucket refuses the key that the operator gives in {SETTING}") from error
    except BaseError as error:
        raise away(uri, "its bucket does not answer") from error
