"""What a registry's database holds at each revision, and what becomes of it on the way up and down.

A revision has its :class:`Step` here: ``up`` and ``down`` say what the rows of before are
afterwards, in the words of a reader and not of the migration; ``new`` adds rows that only
this revision knows.  Every table and every column has a value in some row.
"""

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Step:
    """One revision: what ``up`` and ``down`` make of rows, and the rows of a tenant that begins here."""

    up: Callable[[Rows], Rows]
    down: Callable[[Rows], Rows]
    new: Callable[[], Rows]


def manifest(tenant: str, parent: str, metrics: dict[str, float]) -> str:
    """A manifest as the first release wrote it."""
    lineage = {
        "config": {"r": 8}, "dataset_digest": "sha256:" + "d" * 64, "dataset_rows": 12, "job": "job-1",
        "libraries": {"torch": "2"}, "metrics": metrics, "parent_version": parent, "seed": 7, "trained_tokens": 99,
    }  # fmt: skip
    document = {
        "base_digest": "sha256:" + "b" * 64, "kind": "LORA", "lineage": lineage, "model": "fares", "parameters": 20,
        "rank": 2, "schema": "trivium.version/1", "template_digest": "", "tenant": tenant, "tokenizer_digest": "",
        "files": [{"filename": "adapter_config.json", "sha256": "f" * 64, "size_bytes": 3}],
    }  # fmt: skip
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def digest(text: str) -> str:
    """A version's id."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def first_rows(tenant: str = "t1", at: int = 100) -> Rows:
    """A tenant of the first revision: two versions, the second made from the first, served under an alias."""
    root = manifest(tenant, "", {})
    child = manifest(tenant, digest(root), {"accuracy": 0.5, "loss": 0.25})
    one, two = digest(root), digest(child)
    version = {"tenant": tenant, "model": "fares", "principal": "p", "created_at": 11.5}
    event = {"tenant": tenant, "model": "fares", "created_at": 13.25, "alias": ""}
    alias = {"tenant": tenant, "model": "fares", "alias": "prod"}
    return {
        "models": [
            {"tenant": tenant, "model": "fares", "description": "Fares ⛴", "labels": '{"team": "a"}', "revision": 3,
             "last_number": 2, "created_at": 10.5},
        ],
        "versions": [
            {**version, "version": one, "number": 1, "parent": "", "manifest": root},
            {**version, "version": two, "number": 2, "parent": one, "manifest": child},
        ],
        "files": [
            {"tenant": tenant, "version": one, "filename": "adapter_config.json", "sha256": "f" * 64, "size_bytes": 2**33},
            {"tenant": tenant, "version": two, "filename": "adapter_config.json", "sha256": "f" * 64, "size_bytes": 2**33},
        ],
        "uploads": [
            {"tenant": tenant, "sha256": "f" * 64, "filename": "adapter_config.json", "size_bytes": 2**33,
             "completed_at": 10.75},
        ],
        "aliases": [
            {**alias, "target": two, "serving": two, "state": "SERVING", "reason": "", "etag": "4", "principal": "p",
             "updated_at": 12.5},
            {**alias, "alias": "next", "target": one, "serving": "", "state": "FAILED", "reason": "g: full", "etag": "5",
             "principal": "p", "updated_at": 12.75},
        ],
        "alias_moves": [
            {**alias, "number": 1, "from_version": "", "to_version": one, "principal": "p", "created_at": 12.0},
            {**alias, "number": 2, "from_version": one, "to_version": two, "principal": "p", "created_at": 12.5},
        ],
        "readiness": [
            {"tenant": tenant, "version": two, "generator": f"g-{tenant}", "state": "READY", "reason": "",
             "updated_at": 12.5},
        ],
        "generators": [{"generator": f"g-{tenant}", "seen_at": 13.0}],
        "counters": [{"name": f"events/{tenant}", "value": 2}],
        "events": [
            {**event, "sequence": at + 1, "tenant_sequence": 1, "kind": "VERSION_CREATED", "version": one},
            {**event, "sequence": at + 2, "tenant_sequence": 2, "kind": "ALIAS_FLIPPED", "version": two,
             "alias": json.dumps({"alias": "prod", "target": two})},
        ],
    }  # fmt: skip


def with_columns(rows: Rows, table: str, **values: Any) -> None:
    """Give every row of a table the same values."""
    for row in rows[table]:
        row.update(values)


def without_columns(rows: Rows, table: str, *names: str) -> None:
    """Take columns from a table."""
    for row in rows[table]:
        for name in names:
            del row[name]


def up_0002(rows: Rows) -> Rows:
    """Generators make themselves known anew; a word that no life said stays and counts for none."""
    rows = deepcopy(rows)
    del rows["generators"]
    rows["generator_lives"] = []
    with_columns(rows, "readiness", instance="")
    return rows


def down_0002(rows: Rows) -> Rows:
    """Which generators live is forgotten; what they said is kept."""
    rows = deepcopy(rows)
    del rows["generator_lives"]
    rows["generators"] = []
    without_columns(rows, "readiness", "instance")
    return rows


def new_0002() -> Rows:
    """A generator in its second life."""
    rows = up_0002(first_rows("t2", 200))
    lives = [
        {"generator": "g-t2", "instance": name, "number": at, "seen_at": 13.0} for at, name in enumerate("ab", start=1)
    ]
    with_columns(rows, "readiness", instance="b")
    return {**rows, "generator_lives": lives}


_HIDDEN = {"deleted_at": None, "purge_at": None}
_GOVERNANCE = ("tags", "parents", "measurements", "canaries", "gates")


def up_0003(rows: Rows) -> Rows:
    """Nothing is deleted, held back or shared yet; what manifests say can be searched; the alias knows its former."""
    rows = deepcopy(rows)
    for table in _GOVERNANCE:
        rows[table] = []
    with_columns(rows, "models", card="", task="", keep_last=0, keep_days=0, **_HIDDEN)
    for row in rows["versions"]:
        said = json.loads(row["manifest"])
        lineage = said["lineage"]
        row.update(_HIDDEN, with_model=False, base_digest=said["base_digest"], kind=said["kind"], job=lineage["job"])
        row["dataset_digest"] = lineage["dataset_digest"]
        key = {"tenant": row["tenant"], "version": row["version"]}
        if row["parent"]:
            rows["parents"].append({**key, "position": 0, "parent": row["parent"]})
        for number, (metric, value) in enumerate(sorted(lineage["metrics"].items()), start=1):
            rows["measurements"].append(
                {**key, "number": number, "source": "training", "metric": metric, "value": value, "note": "",
                 "dataset_digest": lineage["dataset_digest"], "dataset_rows": 12, "principal": "p", "created_at": 11.5}
            )  # fmt: skip
    with_columns(rows, "aliases", previous="", why="")
    for row in rows["aliases"]:
        if row["alias"] == "prod":
            moved = [move for move in rows["alias_moves"] if move["tenant"] == row["tenant"]]
            row["previous"] = moved[-1]["from_version"]
    with_columns(rows, "alias_moves", kind="SET", reason="", percent=0, detail="")
    return rows


def down_0003(rows: Rows) -> Rows:
    """What was hidden is there again; of the history stays what moved an alias."""
    rows = deepcopy(rows)
    for table in _GOVERNANCE:
        del rows[table]
    without_columns(rows, "models", "card", "task", "keep_last", "keep_days", *_HIDDEN)
    without_columns(rows, "versions", "base_digest", "kind", "job", "dataset_digest", "with_model", *_HIDDEN)
    without_columns(rows, "aliases", "previous", "why")
    rows["alias_moves"] = [row for row in rows["alias_moves"] if row["kind"] in ("SET", "ROLLBACK")]
    without_columns(rows, "alias_moves", "kind", "reason", "percent", "detail")
    return rows


def new_0003() -> Rows:
    """A tenant with a card, a tag, a gate, a canary, a refusal in its history, and a version that is hidden."""
    tenant = "t3"
    rows = up_0003(up_0002(first_rows(tenant, 300)))
    one, two = (row["version"] for row in rows["versions"])
    alias = {"tenant": tenant, "model": "fares", "alias": "prod"}
    with_columns(rows, "models", card="# Fares", task="extraction", keep_last=3, keep_days=30)
    rows["versions"][1].update(deleted_at=20.5, purge_at=30.5, with_model=True)
    rows["tags"] = [{"tenant": tenant, "version": one, "tag": "best"}]
    rows["gates"] = [
        {"tenant": tenant, "model": "fares", "gate": "good", "policy": "{}", "principal": "p", "created_at": 14.5}
    ]
    rows["canaries"] = [{**alias, "version": one, "buckets": "[]", "state": "PENDING", "reason": "0 of 1"}]
    rows["alias_moves"].append(
        {**alias, "number": 3, "from_version": two, "to_version": one, "principal": "p", "created_at": 15.5,
         "kind": "REFUSED", "reason": "try", "percent": 5, "detail": "good: 0.4 under 0.5"}
    )  # fmt: skip
    rows["aliases"][0]["why"] = "it is better"
    return rows


def up_0004(rows: Rows) -> Rows:
    """What is there was accepted because engines load it."""
    rows = deepcopy(rows)
    with_columns(rows, "versions", unservable_reason="")
    return rows


def down_0004(rows: Rows) -> Rows:
    """Why a version is not loaded is forgotten."""
    rows = deepcopy(rows)
    without_columns(rows, "versions", "unservable_reason")
    return rows


def new_0004() -> Rows:
    """A version that no engine loads."""
    rows = up_0004(up_0003(up_0002(first_rows("t4", 400))))
    rows["versions"][0]["unservable_reason"] = "it is DoRA; merge it"
    return rows


def up_0005(rows: Rows) -> Rows:
    """Nobody is at work while a schema changes."""
    return {**deepcopy(rows), "leases": []}


def down_0005(rows: Rows) -> Rows:
    """Who was at work is forgotten."""
    return {name: found for name, found in deepcopy(rows).items() if name != "leases"}


def new_0005() -> Rows:
    """A replica that merges."""
    rows = up_0005(up_0004(up_0003(up_0002(first_rows("t5", 500)))))
    lease = {
        "tenant": "t5",
        "work": "a" * 64,
        "holder": "c" * 64,
        "progress": "3 of 9 MiB are merged",
        "expires_at": 60.5,
    }
    return {**rows, "leases": [lease]}


def up_0006(rows: Rows) -> Rows:
    """Who deleted what is hidden already was not kept."""
    return {**deepcopy(rows), "changes": []}


def down_0006(rows: Rows) -> Rows:
    """Who deleted what is forgotten."""
    return {name: found for name, found in deepcopy(rows).items() if name != "changes"}


def new_0006() -> Rows:
    """A version that somebody deleted."""
    rows = up_0006(up_0005(up_0004(up_0003(up_0002(first_rows("t6", 600))))))
    change = {
        "tenant": "t6", "model": "fares", "number": 1, "kind": "VERSION_PURGED", "version": digest("gone"),
        "version_number": 3, "principal": "p", "created_at": 15.5, "reason": "a leak", "detail": "with its model",
    }  # fmt: skip
    return {**rows, "changes": [change]}


def up_0007(rows: Rows) -> Rows:
    """No target is known to have been set to go back."""
    rows = deepcopy(rows)
    with_columns(rows, "aliases", rollback=False)
    return rows


def down_0007(rows: Rows) -> Rows:
    """Whether a target was set to go back is forgotten."""
    rows = deepcopy(rows)
    without_columns(rows, "aliases", "rollback")
    return rows


def new_0007() -> Rows:
    """An alias that goes back."""
    rows = up_0007(up_0006(up_0005(up_0004(up_0003(up_0002(first_rows("t7", 700)))))))
    rows["aliases"][0].update(target=rows["aliases"][0]["previous"], state="PENDING", rollback=True)
    return rows


def up_0008(rows: Rows) -> Rows:
    """No model has said by examples what it is for."""
    rows = deepcopy(rows)
    with_columns(rows, "models", examples="[]", fallback="")
    return rows


def down_0008(rows: Rows) -> Rows:
    """What a model is for, and what answers for it, is forgotten."""
    rows = deepcopy(rows)
    without_columns(rows, "models", "examples", "fallback")
    return rows


def new_0008() -> Rows:
    """A model that says what it is for, and what answers where it cannot."""
    rows = up_0008(up_0007(up_0006(up_0005(up_0004(up_0003(up_0002(first_rows("t8", 800))))))))
    rows["models"][0].update(examples='["What is the fare?"]', fallback="base")
    return rows


def nothing(rows: Rows) -> Rows:
    """The first revision finds an empty database and leaves one."""
    return {}


STEPS = {
    "0001": Step(up=nothing, down=nothing, new=first_rows),
    "0002": Step(up=up_0002, down=down_0002, new=new_0002),
    "0003": Step(up=up_0003, down=down_0003, new=new_0003),
    "0004": Step(up=up_0004, down=down_0004, new=new_0004),
    "0005": Step(up=up_0005, down=down_0005, new=new_0005),
    "0006": Step(up=up_0006, down=down_0006, new=new_0006),
    "0007": Step(up=up_0007, down=down_0007, new=new_0007),
    "0008": Step(up=up_0008, down=down_0008, new=new_0008),
}
