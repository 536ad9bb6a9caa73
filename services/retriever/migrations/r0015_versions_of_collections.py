"""Collections have a version, which is another one whenever what a search finds is."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Each collection begins with a version of its own."""
    with op.batch_alter_table("collections") as table:
        table.add_column(sa.Column("version", sa.String(length=32), nullable=False, server_default=""))
    collections = sa.table("collections", sa.column("number", sa.BigInteger()), sa.column("version", sa.String()))
    connection = op.get_bind()
    for number in connection.scalars(sa.select(collections.c.number)).all():
        drawn = sa.update(collections).where(collections.c.number == number).values(version=uuid.uuid4().hex)
        connection.execute(drawn)


def downgrade() -> None:
    """Forget them."""
    with op.batch_alter_table("collections") as table:
        table.drop_column("version")
