"""Collections have a title, metadata and an end by last use; documents their size as they came; batches are remembered."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """No collection expires yet; of the size of earlier documents their characters are what is known."""
    with op.batch_alter_table("collections") as table:
        table.add_column(sa.Column("title", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("metadata_json", sa.Text(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("expire_after_seconds", _NUMBER, nullable=False, server_default="0"))
        table.add_column(sa.Column("last_active_at", sa.Float(), nullable=False, server_default="0"))
        table.add_column(sa.Column("expired_at", sa.Float(), nullable=True))
    op.execute("UPDATE collections SET last_active_at = created_at")
    with op.batch_alter_table("documents") as table:
        table.add_column(sa.Column("source_bytes", _NUMBER, nullable=False, server_default="0"))
    op.execute(
        "UPDATE documents SET source_bytes = COALESCE((SELECT versions.characters FROM versions WHERE "
        "versions.document_number = documents.number AND versions.version = documents.newest_version), 0)"
    )
    op.create_table(
        "document_batches",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("batch", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("collection_number", _NUMBER, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["collection_number"], ["collections.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("batch", name="uq_document_batches_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_document_batches_collection_number", "document_batches", ["collection_number"], unique=False)
    op.create_table(
        "document_batch_entries",
        sa.Column("batch_number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("place", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("document", sa.String(length=512), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["batch_number"], ["document_batches.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("batch_number", "place"),
    )


def downgrade() -> None:
    """Forget them; what had expired is an empty collection."""
    op.drop_table("document_batch_entries")
    op.drop_table("document_batches")
    with op.batch_alter_table("documents") as table:
        table.drop_column("source_bytes")
    with op.batch_alter_table("collections") as table:
        for column in ("expired_at", "last_active_at", "expire_after_seconds", "metadata_json", "title"):
            table.drop_column(column)
