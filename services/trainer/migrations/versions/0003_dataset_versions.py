"""Versions of datasets: a name has several, and the same bytes may be a version of more than one name."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ID = sa.String(128)


def upgrade() -> None:
    """Make every dataset the first version of its own name."""
    with op.batch_alter_table("datasets") as batch:
        batch.add_column(sa.Column("name", _ID, nullable=False, server_default=""))
        batch.add_column(sa.Column("version", sa.Integer, nullable=False, server_default="1"))
        batch.drop_constraint("uq_datasets_digest", type_="unique")
    op.execute("UPDATE datasets SET name = dataset")
    _name_versions(op.get_bind())
    with op.batch_alter_table("datasets") as batch:
        batch.create_unique_constraint("uq_datasets_version", ["tenant", "name", "version"])
        batch.create_index("ix_datasets_digest", ["digest", "tenant"])
    op.create_table(
        "dataset_names",
        sa.Column("tenant", _ID, primary_key=True),
        sa.Column("name", _ID, primary_key=True),
        sa.Column("last_version", sa.Integer, nullable=False),
    )
    op.execute(
        "INSERT INTO dataset_names (tenant, name, last_version) "
        "SELECT tenant, name, MAX(version) FROM datasets GROUP BY tenant, name"
    )


def _name_versions(connection: sa.Connection) -> None:
    """Take apart the keys of versions that a downgrade left; names hold no @."""
    keys = connection.execute(sa.text("SELECT tenant, dataset FROM datasets WHERE dataset LIKE '%@%'")).all()
    change = sa.text("UPDATE datasets SET name = :name, version = :version WHERE tenant = :tenant AND dataset = :key")
    for tenant, key in keys:
        name, _, version = key.rpartition("@")
        connection.execute(change, {"name": name, "version": int(version), "tenant": tenant, "key": key})


def downgrade() -> None:
    """Keep each version under its key; of rows with the same bytes the first."""
    op.drop_table("dataset_names")
    op.execute(
        "DELETE FROM datasets WHERE EXISTS (SELECT 1 FROM datasets AS other WHERE other.tenant = datasets.tenant AND "
        "other.digest = datasets.digest AND (other.created_at < datasets.created_at OR "
        "(other.created_at = datasets.created_at AND other.dataset < datasets.dataset)))"
    )
    with op.batch_alter_table("datasets") as batch:
        batch.drop_index("ix_datasets_digest")
        batch.drop_constraint("uq_datasets_version", type_="unique")
        batch.drop_column("version")
        batch.drop_column("name")
        batch.create_unique_constraint("uq_datasets_digest", ["tenant", "digest"])
