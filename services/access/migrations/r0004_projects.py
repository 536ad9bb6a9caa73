"""Projects; keys belong to one, are narrowed to scopes, tell when they were used and whom they replace."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table and the columns."""
    op.create_table(
        "projects",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("project", sa.String(length=128), nullable=False),
        sa.Column("display_name", sa.String(length=200), nullable=False),
        sa.Column("created_at", _BIG, nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name="fk_projects_tenant"),
        sa.PrimaryKeyConstraint("tenant", "project"),
    )
    with op.batch_alter_table("keys") as keys:
        keys.add_column(sa.Column("project", sa.String(length=128), nullable=False, server_default=""))
        keys.add_column(sa.Column("scopes", sa.String(length=400), nullable=False, server_default=""))
        keys.add_column(sa.Column("used_at", _BIG, nullable=True))
        keys.add_column(sa.Column("replaces", sa.String(length=64), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop them.  What a key was narrowed to would be lost with its column, so a narrowed one is lost itself."""
    op.execute(sa.text("DELETE FROM keys WHERE scopes <> ''"))
    with op.batch_alter_table("keys") as keys:
        for column in ("replaces", "used_at", "scopes", "project"):
            keys.drop_column(column)
    op.drop_table("projects")
