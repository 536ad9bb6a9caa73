"""What ingestion from elsewhere remembers: the digest of a document's bytes as they came last."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, with what the newest versions say."""
    op.add_column("documents", sa.Column("source_sha256", sa.String(length=64), nullable=False, server_default=""))
    op.execute(
        "UPDATE documents SET source_sha256 = (SELECT v.source_sha256 FROM versions v "
        "WHERE v.document_number = documents.number AND v.version = documents.newest_version)"
    )


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("documents", "source_sha256")
