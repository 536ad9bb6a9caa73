"""Roles become a ladder: what a member may is less than it was, so who was one keeps the rest as a developer."""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEYS = sa.table("keys", sa.column("key", sa.String), sa.column("roles", sa.String))
_UP = {"member": ("developer", "member"), "reader": ("viewer",)}
_DOWN = {"developer": ("member",), "viewer": ("reader",)}


def upgrade() -> None:
    """A member could train and add documents; a reader is called viewer."""
    _rename(_UP)


def downgrade() -> None:
    """Whoever may train is called member again, and so is who may only chat: there is no lesser name that can."""
    _rename(_DOWN)


def _rename(names: Mapping[str, tuple[str, ...]]) -> None:
    connection = op.get_bind()
    for key, roles in connection.execute(sa.select(_KEYS.c.key, _KEYS.c.roles)).all():
        renamed = {new for old in roles.split(",") for new in names.get(old, (old,))}
        told = ",".join(sorted(renamed))
        if told != roles:
            connection.execute(sa.update(_KEYS).where(_KEYS.c.key == key).values(roles=told))
