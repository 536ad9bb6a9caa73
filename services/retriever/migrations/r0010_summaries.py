"""Nodes of summary trees, and the documents that each was computed from."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "summary_nodes",
        sa.Column("key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("collection_number", _NUMBER, nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("statements_json", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["collection_number"], ["collections.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_summary_nodes_collection", "summary_nodes", ["collection_number", "mode"], unique=False)
    op.create_table(
        "summary_inputs",
        sa.Column("key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("document_number", _NUMBER, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["document_number"], ["documents.number"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["key"], ["summary_nodes.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key", "document_number"),
    )
    op.create_index("ix_summary_inputs_document", "summary_inputs", ["document_number"], unique=False)


def downgrade() -> None:
    """Drop the tables; summaries are computed anew."""
    for table in ("summary_inputs", "summary_nodes"):
        op.drop_table(table)
