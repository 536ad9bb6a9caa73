"""The revisions of access's schema keep what a key may do, in both worlds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from services.access import migrations
from services.chassis.database import make_engine
from tests.worlds import BUCKET, FOLDER

OLD = {"reads": "reader", "writes": "member", "owns": "member,owner", "admin": "admin,owner", "service": "service"}
NEW = {
    "reads": "viewer",
    "writes": "developer,member",
    "owns": "developer,member,owner",
    "admin": "admin,owner",
    "service": "service",
}


@pytest.fixture(params=[FOLDER, BUCKET])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Connection]:
    on_disk = request.param == FOLDER
    url = f"sqlite:///{tmp_path}/access.db" if on_disk else str(request.getfixturevalue("postgres_url"))
    engine = make_engine(url)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def walk(connection: sa.Connection, target: str, *, down: bool = False) -> None:
    folder = str(Path(migrations.__path__[0]))
    files = ScriptDirectory(folder, version_locations=[folder])
    steps = files._downgrade_revs if down else files._upgrade_revs
    with EnvironmentContext(Config(), files, fn=lambda revision, _: steps(target, revision)) as environment:
        with connection.begin():
            environment.configure(connection=connection, render_as_batch=True)
            environment.run_migrations()


def roles_in(connection: sa.Connection) -> dict[str, str]:
    with connection.begin():
        return {row.key: row.roles for row in connection.execute(sa.text("SELECT key, roles FROM keys"))}


def test_whoever_could_train_still_can_after_members_may_do_less(connection: sa.Connection) -> None:
    walk(connection, "0002")
    with connection.begin():
        connection.execute(sa.text("INSERT INTO tenants (tenant, display_name, created_at) VALUES ('a', 'A', 1)"))
        for key, roles in OLD.items():
            row = (
                "INSERT INTO keys (key, tenant, display_name, roles, hash, created_at) VALUES (:k, 'a', '', :r, :h, 1)"
            )
            connection.execute(sa.text(row), {"k": key, "r": roles, "h": bytes(32)})
    walk(connection, "0003")
    assert roles_in(connection) == NEW
    walk(connection, "head")
    assert roles_in(connection) == NEW
    walk(connection, "0002", down=True)
    assert roles_in(connection) == OLD


def test_a_key_of_a_user_does_not_outlive_the_column_that_says_so(connection: sa.Connection) -> None:
    walk(connection, "head")
    with connection.begin():
        connection.execute(sa.text("INSERT INTO tenants (tenant, display_name, created_at) VALUES ('a', 'A', 1)"))
        for key, user in {"theirs": "user_1", "nobodys": ""}.items():
            row = (
                "INSERT INTO keys (key, tenant, display_name, roles, hash, created_at, user_id) "
                "VALUES (:k, 'a', '', 'viewer', :h, 1, :u)"
            )
            connection.execute(sa.text(row), {"k": key, "h": bytes(32), "u": user})
    walk(connection, "0007", down=True)
    assert set(roles_in(connection)) == {"nobodys"}
    walk(connection, "0005", down=True)
    walk(connection, "head")
    assert set(roles_in(connection)) == {"nobodys"}


def test_events_that_were_there_are_kept_from_change_and_go_up_and_down_as_they_are(connection: sa.Connection) -> None:
    def events() -> list[tuple[int, str]]:
        with connection.begin():
            rows = connection.execute(sa.text("SELECT sequence, resource FROM audit ORDER BY sequence"))
            return [(row.sequence, row.resource) for row in rows]

    def change() -> None:
        with connection.begin():
            connection.execute(sa.text("UPDATE audit SET resource = resource || '!' WHERE sequence = 1"))

    walk(connection, "0009")
    with connection.begin():
        for sequence in (1, 2):
            row = (
                "INSERT INTO audit (tenant, sequence, principal, action, resource, created_at, hash) "
                "VALUES ('a', :s, 'p', 'key.created', 'r', 1, :h)"
            )
            connection.execute(sa.text(row), {"s": sequence, "h": bytes(32)})
    walk(connection, "head")
    with pytest.raises(sa.exc.IntegrityError, match="append-only"):
        change()
    assert events() == [(1, "r"), (2, "r")]
    walk(connection, "0009", down=True)
    change()
    walk(connection, "head")
    assert events() == [(1, "r!"), (2, "r")]
    with pytest.raises(sa.exc.IntegrityError, match="append-only"):
        change()
