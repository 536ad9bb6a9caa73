"""What ``base:NAME`` means: a base of the deployment's, or a full model of the caller's tenant.

A tenant's model cannot take a deployment's name away: the deployment's own come first.
"""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.registry import full_models
from services.registry.bases import DIGEST, Base
from services.registry.callers import Caller
from services.registry.manifests import Kind
from services.registry.models import names, not_found
from services.registry.store import ModelRow, VersionRow
from services.registry.store_aliases import AliasRow
from services.registry.version_view import find_version

_DEFAULT_ALIAS = "prod"


def named(session: Session, caller: Caller, name: str, known: Sequence[Base], *, certain: bool) -> VersionRow | None:
    """The full version that NAME, NAME@ALIAS, NAME@VERSION or its folder's digest means.

    None for a base of the deployment's.

    Without a reference it is what the alias prod serves, else the newest.  ``certain`` says that ``known`` is all
    that the deployment has; what is not known otherwise may be a base of it.  Raises MODEL_NOT_FOUND with the
    nearest names, FIELD_INVALID for an adapter or an encoder.
    """
    if any(name in (base.name, base.digest) for base in known):
        return None
    if DIGEST.match(name) and (found := full_models.with_digest(session, caller.tenant, name)) is not None:
        return found
    model, at, reference = name.partition("@")
    row = session.get(ModelRow, (caller.tenant, model))
    if row is None or row.deleted_at is not None:
        if not certain and not at:
            return None
        candidates = [*(base.name for base in known), *names(session, caller.tenant)]
        raise not_found(f"base:{name}", [f"base:{candidate}" for candidate in candidates])
    version = _version(session, caller, model, reference if at else _DEFAULT_ALIAS, needed=bool(at))
    if version is None:
        why = f"the model {model} has no full version; import or merge one"
        raise Failure(Reason.FIELD_INVALID, field="name", problem=why)
    if version.kind != Kind.FULL.value:
        what = "an encoder" if version.kind == Kind.ENCODER.value else "an adapter"
        problem = f"{model}@{version.number} is {what}, and only a full model can be a base"
        raise Failure(Reason.FIELD_INVALID, field="name", problem=problem)
    return version


def _version(session: Session, caller: Caller, model: str, reference: str, *, needed: bool) -> VersionRow | None:
    alias = session.get(AliasRow, (caller.tenant, model, reference))
    if alias is not None and alias.serving:
        found = session.get(VersionRow, (caller.tenant, alias.serving))
        if found is not None and (needed or found.kind == Kind.FULL.value):
            return found
    if needed:
        return find_version(session, Caller(caller.tenant, caller.principal), model, reference)
    return full_models.newest(session, caller.tenant, model)
