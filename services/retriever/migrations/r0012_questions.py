"""Questions that chunks answer: how many a collection has written, the questions, their vectors."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; no collection has questions yet."""
    with op.batch_alter_table("collections") as table:
        table.add_column(sa.Column("questions_per_chunk", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("questions_reason", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "chunk_questions",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("text_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("writer", sa.String(length=80), nullable=False),
        sa.Column("questions_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "text_digest"),
    )
    op.create_table(
        "question_vectors",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("model_digest", sa.String(length=80), nullable=False),
        sa.Column("text_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("vectors", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "model_digest", "text_digest"),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("question_vectors")
    op.drop_table("chunk_questions")
    with op.batch_alter_table("collections") as table:
        table.drop_column("questions_reason")
        table.drop_column("questions_per_chunk")
