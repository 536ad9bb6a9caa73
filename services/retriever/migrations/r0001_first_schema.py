"""The first schema: collections, documents and their metadata, versions, chunks, vectors, facts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only where the type is exactly INTEGER.
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "collections",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("collection", sa.String(length=128), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("embedding_digest", sa.String(length=80), nullable=False),
        sa.Column("vectors_computed", _NUMBER, nullable=False),
        sa.Column("revision", _NUMBER, nullable=False),
        sa.Column("change_sequence", _NUMBER, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("tenant", "collection", name="uq_collections_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "vectors",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("model_digest", sa.String(length=80), nullable=False),
        sa.Column("text_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "model_digest", "text_digest"),
    )
    op.create_table(
        "documents",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("collection_number", _NUMBER, nullable=False),
        sa.Column("document", sa.String(length=512), nullable=False),
        sa.Column("given_title", sa.String(length=512), nullable=False),
        sa.Column("title", sa.String(length=512), nullable=False),
        sa.Column("media_type", sa.String(length=128), nullable=False),
        sa.Column("metadata_json", sa.Text(), nullable=False),
        sa.Column("newest_version", sa.String(length=64), nullable=False),
        sa.Column("serving_version", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("revision", _NUMBER, nullable=False),
        sa.Column("chunks", _NUMBER, nullable=False),
        sa.Column("chunks_embedded", _NUMBER, nullable=False),
        sa.Column("chunks_reused", _NUMBER, nullable=False),
        sa.Column("queued_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("change_sequence", _NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["collection_number"], ["collections.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("collection_number", "document", name="uq_documents_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_documents_changes", "documents", ["collection_number", "change_sequence"], unique=False)
    op.create_index("ix_documents_queue", "documents", ["state", "tenant", "queued_at"], unique=False)
    op.create_table(
        "document_metadata",
        sa.Column("document_number", _NUMBER, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("collection_number", _NUMBER, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["document_number"], ["documents.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("document_number", "name"),
    )
    op.create_index(
        "ix_document_metadata_pair", "document_metadata", ["collection_number", "name", "value"], unique=False
    )
    op.create_table(
        "versions",
        sa.Column("document_number", _NUMBER, nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("sequence", _NUMBER, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("characters", _NUMBER, nullable=False),
        sa.Column("source_sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["document_number"], ["documents.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("document_number", "version"),
    )
    op.create_table(
        "chunks",
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
        sa.Column("text_digest", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(["collection_number"], ["collections.number"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["document_number", "version"], ["versions.document_number", "versions.version"], ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("chunk"),
    )
    op.create_index("ix_chunks_collection", "chunks", ["collection_number"], unique=False)
    op.create_index("ix_chunks_document", "chunks", ["document_number"], unique=False)
    op.create_index("ix_chunks_vector", "chunks", ["tenant", "text_digest"], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_index("ix_chunks_vector", table_name="chunks")
    op.drop_index("ix_chunks_document", table_name="chunks")
    op.drop_index("ix_chunks_collection", table_name="chunks")
    op.drop_table("chunks")
    op.drop_table("versions")
    op.drop_index("ix_document_metadata_pair", table_name="document_metadata")
    op.drop_table("document_metadata")
    op.drop_index("ix_documents_queue", table_name="documents")
    op.drop_index("ix_documents_changes", table_name="documents")
    op.drop_table("documents")
    op.drop_table("vectors")
    op.drop_table("facts")
    op.drop_table("collections")
