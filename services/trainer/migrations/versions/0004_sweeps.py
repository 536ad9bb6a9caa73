"""Sweeps and their members."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ID = sa.String(128)


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "sweeps",
        sa.Column("tenant", _ID, primary_key=True),
        sa.Column("sweep", _ID, primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("rungs_json", sa.Text, nullable=False),
        sa.Column("kept_ratio", sa.Float, nullable=False),
        sa.Column("best", _ID, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
    )
    op.create_index("ix_sweeps_state", "sweeps", ["state"])
    op.create_table(
        "sweep_members",
        sa.Column("tenant", _ID, primary_key=True),
        sa.Column("sweep", _ID, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("job", _ID, nullable=False),
        sa.Column("point_json", sa.Text, nullable=False),
        sa.Column("hold_steps_json", sa.Text, nullable=False),
        sa.Column("released", sa.Integer, nullable=False),
        sa.Column("trained", sa.Boolean, nullable=False),
        sa.Column("ended_at_rung", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["tenant", "sweep"], ["sweeps.tenant", "sweeps.sweep"], name="fk_sweep_members_sweep"),
        sa.ForeignKeyConstraint(["tenant", "job"], ["jobs.tenant", "jobs.job"], name="fk_sweep_members_job"),
        sa.UniqueConstraint("tenant", "job", name="uq_sweep_members_job"),
    )


def downgrade() -> None:
    """Drop them; their members stay, as jobs of their own."""
    op.drop_table("sweep_members")
    op.drop_table("sweeps")
