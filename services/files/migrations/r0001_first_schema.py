"""The first schema: files, responses and what a tenant keeps of both."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "files",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("file", sa.String(length=64), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("media_type", sa.String(length=127), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", _BIG, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "file"),
    )
    op.create_index("ix_files_purpose", "files", ["tenant", "purpose", "file"])
    op.create_index("ix_files_sha256", "files", ["sha256"])
    op.create_index("ix_files_expires_at", "files", ["expires_at"])
    op.create_table(
        "responses",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("response", sa.String(length=64), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("size_bytes", _BIG, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "response"),
    )
    op.create_index("ix_responses_expires_at", "responses", ["expires_at"])
    op.create_table(
        "input_items",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("response", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("item", sa.String(length=64), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "response"],
            ["responses.tenant", "responses.response"],
            name="fk_input_items_response",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant", "response", "position"),
    )
    op.create_table(
        "holdings",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("entries", _BIG, nullable=False),
        sa.Column("size_bytes", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kind"),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("holdings")
    op.drop_table("input_items")
    op.drop_index("ix_responses_expires_at", table_name="responses")
    op.drop_table("responses")
    op.drop_index("ix_files_expires_at", table_name="files")
    op.drop_index("ix_files_sha256", table_name="files")
    op.drop_index("ix_files_purpose", table_name="files")
    op.drop_table("files")
