"""The first schema: models, versions and their files, uploads, aliases and their moves, readiness, events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "alias_moves",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("alias", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("from_version", sa.String(length=80), nullable=False),
        sa.Column("to_version", sa.String(length=80), nullable=False),
        sa.Column("principal", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "model", "alias", "number"),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("value", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "events",
        sa.Column(
            "sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("tenant_sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("tenant", "tenant_sequence", name="uq_events_tenant_sequence"),
    )
    op.create_table(
        "generators",
        sa.Column("generator", sa.String(length=128), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("generator"),
    )
    op.create_table(
        "models",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("last_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "model"),
    )
    op.create_table(
        "readiness",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("generator", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "version", "generator"),
    )
    op.create_table(
        "uploads",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("completed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sha256"),
    )
    op.create_index("ix_uploads_completed_at", "uploads", ["completed_at"], unique=False)
    op.create_index("ix_uploads_sha256", "uploads", ["sha256"], unique=False)
    op.create_table(
        "versions",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("parent", sa.String(length=80), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("principal", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "model"], ["models.tenant", "models.model"], name="fk_versions_model"),
        sa.PrimaryKeyConstraint("tenant", "version"),
        sa.UniqueConstraint("tenant", "model", "number", name="uq_versions_number"),
    )
    op.create_index("ix_versions_parent", "versions", ["tenant", "parent"], unique=False)
    op.create_index("ix_versions_version", "versions", ["version"], unique=False)
    op.create_table(
        "aliases",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("alias", sa.String(length=32), nullable=False),
        sa.Column("target", sa.String(length=80), nullable=False),
        sa.Column("serving", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("etag", sa.String(length=40), nullable=False),
        sa.Column("principal", sa.String(length=128), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "model"], ["models.tenant", "models.model"], name="fk_aliases_model"),
        sa.ForeignKeyConstraint(
            ["tenant", "target"], ["versions.tenant", "versions.version"], name="fk_aliases_target"
        ),
        sa.PrimaryKeyConstraint("tenant", "model", "alias"),
    )
    op.create_index("ix_aliases_serving", "aliases", ["tenant", "serving"], unique=False)
    op.create_index("ix_aliases_target", "aliases", ["tenant", "target"], unique=False)
    op.create_table(
        "files",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("filename", sa.String(length=128), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "version"], ["versions.tenant", "versions.version"], name="fk_files_version"
        ),
        sa.PrimaryKeyConstraint("tenant", "version", "filename"),
    )
    op.create_index("ix_files_sha256", "files", ["sha256", "tenant"], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_index("ix_files_sha256", table_name="files")
    op.drop_table("files")
    op.drop_index("ix_aliases_target", table_name="aliases")
    op.drop_index("ix_aliases_serving", table_name="aliases")
    op.drop_table("aliases")
    op.drop_index("ix_versions_version", table_name="versions")
    op.drop_index("ix_versions_parent", table_name="versions")
    op.drop_table("versions")
    op.drop_index("ix_uploads_sha256", table_name="uploads")
    op.drop_index("ix_uploads_completed_at", table_name="uploads")
    op.drop_table("uploads")
    op.drop_table("readiness")
    op.drop_table("models")
    op.drop_table("generators")
    op.drop_table("events")
    op.drop_table("counters")
    op.drop_table("alias_moves")
