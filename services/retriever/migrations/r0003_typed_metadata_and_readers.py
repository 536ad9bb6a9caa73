"""Metadata with types, access lists, and who stored a document."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Compared by code points, as SQLite and Python do, whatever the server's locale.
_ORDERED_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables, and give what is there its type: text."""
    for name, default in (("readers_json", "[]"), ("attributes_json", "{}"), ("stored_by", "")):
        kind = sa.String(length=128) if name == "stored_by" else sa.Text()
        op.add_column("documents", sa.Column(name, kind, nullable=False, server_default=default))
    op.create_table(
        "document_readers",
        sa.Column("document_number", _NUMBER, nullable=False),
        sa.Column("reader", sa.String(length=128), nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("collection_number", _NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["document_number"], ["documents.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("document_number", "reader"),
    )
    op.create_index("ix_document_readers_collection", "document_readers", ["collection_number"], unique=False)
    op.create_table(
        "document_values",
        sa.Column("document_number", _NUMBER, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("collection_number", _NUMBER, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("text", _ORDERED_TEXT, nullable=True),
        sa.Column("folded", _ORDERED_TEXT, nullable=True),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("micros", _NUMBER, nullable=True),
        sa.ForeignKeyConstraint(["document_number"], ["documents.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("document_number", "name", "place"),
    )
    op.create_index("ix_document_values_name", "document_values", ["collection_number", "name", "kind"], unique=False)
    rows = op.get_bind().execute(
        sa.text("SELECT document_number, name, tenant, collection_number, value FROM document_metadata")
    )
    values = sa.table("document_values", *map(sa.column, _COLUMNS))
    for row in rows.mappings():
        kept = {name: row[name] for name in ("document_number", "name", "tenant", "collection_number")}
        text = row["value"]
        op.get_bind().execute(values.insert().values(**kept, place=0, kind="TEXT", text=text, folded=text.casefold()))
    op.drop_index("ix_document_metadata_pair", table_name="document_metadata")
    op.drop_table("document_metadata")


_COLUMNS = ("document_number", "name", "place", "tenant", "collection_number", "kind", "text", "folded")


def downgrade() -> None:
    """Keep what is text and stands alone, as it was."""
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
    op.execute(
        "INSERT INTO document_metadata (document_number, name, tenant, collection_number, value) "
        "SELECT document_number, name, tenant, collection_number, text FROM document_values WHERE kind = 'TEXT'"
    )
    op.drop_index("ix_document_values_name", table_name="document_values")
    op.drop_table("document_values")
    op.drop_index("ix_document_readers_collection", table_name="document_readers")
    op.drop_table("document_readers")
    for name in ("stored_by", "attributes_json", "readers_json"):
        op.drop_column("documents", name)
