"""Documents of every format: bytes that wait to be converted, blocks and pages beside a version, notices."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COUNTS = (("documents", "source_parts"), ("versions", "pages"), ("chunks", "first_page"), ("chunks", "last_page"))


def upgrade() -> None:
    """Create the table and add the columns."""
    op.create_table(
        "source_parts",
        sa.Column("document_number", _NUMBER, nullable=False),
        sa.Column("part", _NUMBER, nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["document_number"], ["documents.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("document_number", "part"),
    )
    op.add_column("documents", sa.Column("source_charset", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("documents", sa.Column("notice", sa.Text(), nullable=False, server_default=""))
    op.add_column("versions", sa.Column("layout", sa.LargeBinary(), nullable=True))
    for table, column in _COUNTS:
        op.add_column(table, sa.Column(column, _NUMBER, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop them."""
    for table, column in _COUNTS:
        op.drop_column(table, column)
    op.drop_column("versions", "layout")
    op.drop_column("documents", "notice")
    op.drop_column("documents", "source_charset")
    op.drop_table("source_parts")
