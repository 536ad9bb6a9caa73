"""All verbs of access over opened leaves: the one place that knows how they hang together."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.access.allowances import Allowances
from services.access.assertions import Assertions, SigningKeys
from services.access.audit import Audit
from services.access.authenticator import Exchange, LocalAuthenticator
from services.access.changes import Changes
from services.access.config import AccessSettings
from services.access.first_start import FirstStart
from services.access.keys import Keys
from services.access.last_used import FLUSH_SECONDS, LastUsed
from services.access.policies import Policies
from services.access.projects import Projects
from services.access.quotas import Quotas
from services.access.revocations import Revocations
from services.access.secret_files import read_or_create
from services.access.tenants import Tenants
from services.access.tokens import Tokens
from services.access.usage import UsageLedger
from services.access.usage_export import UsageExport
from services.access.users import Users
from services.chassis.database import open_database
from services.chassis.errors import Failure
from services.chassis.runtime import Runtime

_HASHING_KEY_BYTES = 32
_ROTATION_CHECK_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Verbs:
    """What access can do."""

    tenants: Tenants
    keys: Keys
    projects: Projects
    users: Users
    exchange: Exchange
    signing: SigningKeys
    revocations: Revocations
    quotas: Quotas
    policies: Policies
    allowances: Allowances
    usage: UsageLedger
    export: UsageExport
    audit: Audit
    changes: Changes


@asynccontextmanager
async def open_verbs(runtime: Runtime, answer_of: Callable[[bytes], bytes]) -> AsyncIterator[Verbs]:
    """Open the database and the keys, make what a first start needs, close all in reverse.  ``answer_of`` is the ledger's."""
    settings = runtime.settings
    assert isinstance(settings, AccessSettings)
    assert settings.service_key_file is not None

    def seconds() -> float:
        return runtime.clock.now().timestamp()

    def microseconds() -> int:
        return int(seconds() * 1e6)

    # Key hashes are for nobody else on this machine.
    settings.service_dir.chmod(0o700)
    async with open_database(settings.database_url, "services.access.migrations") as database:
        hashing_key = await runtime.blocking(read_or_create, settings.service_dir / "hashing.key", _HASHING_KEY_BYTES)
        signing = SigningKeys(
            settings.service_dir / "signing", rotate_days=settings.signing_key_days, now_seconds=seconds
        )
        await runtime.blocking(signing.refresh)
        tenants, keys = Tenants(database, microseconds), Keys(database, hashing_key, microseconds)
        first = FirstStart(
            database, tenants, keys, tenant=settings.first_tenant, folder=settings.service_key_file.parent
        )
        for name in await runtime.blocking(first.ensure):
            runtime.log.info("key_file_written", file=name)
        assertions = Assertions(signing, lifetime_seconds=settings.assertion_seconds, now_seconds=seconds)
        users = Users(database, microseconds)
        quotas = Quotas(database, microseconds)
        exchange = Exchange(keys, tenants, quotas, assertions, Tokens(settings.oidc_issuers, runtime.log), users)
        runtime.authenticator = LocalAuthenticator(keys, users, signing, exchange)
        runtime.spawn(_rotate(runtime, signing), "rotate-signing-keys")
        runtime.spawn(_keep_uses(runtime, keys.used), "last-used")
        yield Verbs(
            tenants=tenants,
            keys=keys,
            projects=Projects(database, microseconds),
            users=users,
            exchange=exchange,
            signing=signing,
            revocations=Revocations(keys, users, lifetime_seconds=settings.assertion_seconds, now=microseconds),
            quotas=quotas,
            policies=Policies(database, microseconds),
            allowances=Allowances(database, microseconds),
            usage=UsageLedger(database, microseconds, answer_of),
            export=UsageExport(database),
            audit=Audit(database),
            changes=Changes(database),
        )


async def _keep_uses(runtime: Runtime, used: LastUsed) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        try:
            await used.flush()
        except Failure as failure:
            runtime.log.warning("last_used_not_written", reason=failure.reason.name)


async def _rotate(runtime: Runtime, signing: SigningKeys) -> None:
    while True:
        await asyncio.sleep(_ROTATION_CHECK_SECONDS)
        if await runtime.blocking(signing.refresh):
            runtime.log.info("signing_key_rotated", key_id=signing.current.key_id)
