"""Ingestion from elsewhere: sources and their objects, and of each document the digest of the bytes that came last."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only where the type is exactly INTEGER.
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COUNTS = ("refresh_seconds", "revision", "reading", "tries", "found", "stored", "unchanged", "failed", "deleted")


def upgrade() -> None:
    """Add the column, with what the newest versions say, and create the tables."""
    op.add_column("documents", sa.Column("source_sha256", sa.String(length=64), nullable=False, server_default=""))
    op.execute(
        "UPDATE documents SET source_sha256 = (SELECT v.source_sha256 FROM versions v "
        "WHERE v.document_number = documents.number AND v.version = documents.newest_version)"
    )
    op.create_table(
        "sources",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("collection_number", _NUMBER, nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("prune", sa.Boolean(), nullable=False),
        sa.Column("readers_json", sa.Text(), nullable=False),
        sa.Column("ordered_by", sa.String(length=128), nullable=False),
        sa.Column("manages_all", sa.Boolean(), nullable=False),
        *(sa.Column(name, _NUMBER, nullable=False) for name in _COUNTS),
        sa.Column("fetched_bytes", _NUMBER, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("read_at", sa.Float(), nullable=True),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["collection_number"], ["collections.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("collection_number", "uri", name="uq_sources_uri"),
        sa.UniqueConstraint("source", name="uq_sources_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sources_due", "sources", ["due_at"], unique=False)
    op.create_table(
        "source_objects",
        sa.Column("source_number", _NUMBER, nullable=False),
        sa.Column("uri_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("etag", sa.String(length=256), nullable=False),
        sa.Column("modified", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", _NUMBER, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("reading", _NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["source_number"], ["sources.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("source_number", "uri_digest"),
    )
    op.create_index("ix_source_objects_reading", "source_objects", ["source_number", "reading"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_source_objects_reading", table_name="source_objects")
    op.drop_table("source_objects")
    op.drop_index("ix_sources_due", table_name="sources")
    op.drop_table("sources")
    op.drop_column("documents", "source_sha256")
