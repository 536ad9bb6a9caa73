"""Datasets, jobs and their events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.String(128)
_DIGEST = sa.String(80)
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the first schema."""
    op.create_table(
        "datasets",
        sa.Column("tenant", _ID, primary_key=True),
        sa.Column("dataset", _ID, primary_key=True),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("format", sa.String(32), nullable=False),
        sa.Column("rows", _BIG, nullable=False),
        sa.Column("size_bytes", _BIG, nullable=False),
        sa.Column("tokens", _BIG, nullable=False),
        sa.Column("max_row_tokens", _BIG, nullable=False),
        sa.Column("supervised_tokens", _BIG, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.UniqueConstraint("tenant", "digest", name="uq_datasets_digest"),
    )
    op.create_table(
        "jobs",
        sa.Column("tenant", _ID, primary_key=True),
        sa.Column("job", _ID, primary_key=True),
        sa.Column("principal", _ID, nullable=False),
        sa.Column("dataset_digest", _DIGEST, nullable=False),
        sa.Column("order_json", sa.Text, nullable=False),
        sa.Column("progress_json", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", _DIGEST, nullable=False),
        sa.Column("error_reason", sa.String(64), nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("sequence", _BIG, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("queued_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float),
    )
    op.create_index("ix_jobs_state", "jobs", ["state", "queued_at"])
    op.create_index("ix_jobs_dataset", "jobs", ["tenant", "dataset_digest"])
    op.create_table(
        "events",
        sa.Column("tenant", _ID, primary_key=True),
        sa.Column("job", _ID, primary_key=True),
        sa.Column("sequence", _BIG, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("progress_json", sa.Text, nullable=False),
        sa.Column("learning_rate", sa.Float, nullable=False),
        sa.Column("gradient_norm", sa.Float, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.ForeignKeyConstraint(["tenant", "job"], ["jobs.tenant", "jobs.job"], name="fk_events_job"),
    )


def downgrade() -> None:
    """Drop the first schema."""
    for table in ("events", "jobs", "datasets"):
        op.drop_table(table)
