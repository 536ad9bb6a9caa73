"""Changes of a collection's embedding model: the change, the documents that are done, their new chunks."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "reembeddings",
        sa.Column("collection_number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("model_digest", sa.String(length=80), nullable=False),
        sa.Column("dimensions", _NUMBER, nullable=False),
        sa.Column("running", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("build", _NUMBER, nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["collection_number"], ["collections.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("collection_number"),
    )
    op.create_table(
        "reembedded_documents",
        sa.Column("document_number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("collection_number", _NUMBER, nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=512), nullable=False),
        sa.Column("chunks", _NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["collection_number"], ["reembeddings.collection_number"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["document_number"], ["documents.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("document_number"),
    )
    op.create_index(
        op.f("ix_reembedded_documents_collection_number"), "reembedded_documents", ["collection_number"], unique=False
    )
    op.create_table(
        "reembedded_chunks",
        sa.Column("chunk", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("collection_number", _NUMBER, nullable=False),
        sa.Column("document_number", _NUMBER, nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("start", _NUMBER, nullable=False),
        sa.Column("end", _NUMBER, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("heading_path_json", sa.Text(), nullable=False),
        sa.Column("first_page", _NUMBER, nullable=False),
        sa.Column("last_page", _NUMBER, nullable=False),
        sa.Column("text_digest", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(["document_number"], ["reembedded_documents.document_number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chunk"),
    )
    op.create_index("ix_reembedded_chunks_collection", "reembedded_chunks", ["collection_number"], unique=False)
    op.create_index("ix_reembedded_chunks_document", "reembedded_chunks", ["document_number"], unique=False)
    op.create_index("ix_reembedded_chunks_vector", "reembedded_chunks", ["tenant", "text_digest"], unique=False)


def downgrade() -> None:
    """Drop the tables; collections keep their models."""
    for table in ("reembedded_chunks", "reembedded_documents", "reembeddings"):
        op.drop_table(table)
