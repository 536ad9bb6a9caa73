"""Collections say in which index they are, and in which build of it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Every collection is in build 0 of the deployment's index."""
    with op.batch_alter_table("collections") as table:
        table.add_column(sa.Column("index_kind", sa.String(length=16), nullable=False, server_default=""))
        table.add_column(sa.Column("index_build", _NUMBER, nullable=False, server_default="0"))
        table.add_column(sa.Column("index_builds", _NUMBER, nullable=False, server_default="0"))


def downgrade() -> None:
    """Forget builds; indexes are made anew."""
    with op.batch_alter_table("collections") as table:
        for column in ("index_builds", "index_build", "index_kind"):
            table.drop_column(column)
