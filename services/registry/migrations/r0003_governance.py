"""Governance: cards, tags, measurements, parents, gates, canaries, reasons of moves, soft deletion.

What the manifests of existing versions say is copied to where it is searched; an alias's previous version is read from
its moves.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OF_VERSIONS = ("base_digest", "kind", "job", "dataset_digest")


def upgrade() -> None:
    """Create the tables and columns, and fill them from what is there."""
    _add_columns()
    _create_version_tables()
    _create_alias_tables()
    _fill_from_manifests(op.get_bind())
    _fill_previous(op.get_bind())


def _add_columns() -> None:
    with op.batch_alter_table("models") as table:
        table.add_column(sa.Column("card", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("task", sa.String(length=64), nullable=False, server_default=""))
        table.add_column(sa.Column("keep_last", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("keep_days", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("deleted_at", sa.Float(), nullable=True))
        table.add_column(sa.Column("purge_at", sa.Float(), nullable=True))
    with op.batch_alter_table("versions") as table:
        table.add_column(sa.Column("base_digest", sa.String(length=80), nullable=False, server_default=""))
        table.add_column(sa.Column("kind", sa.String(length=16), nullable=False, server_default=""))
        table.add_column(sa.Column("job", sa.String(length=128), nullable=False, server_default=""))
        table.add_column(sa.Column("dataset_digest", sa.String(length=80), nullable=False, server_default=""))
        table.add_column(sa.Column("deleted_at", sa.Float(), nullable=True))
        table.add_column(sa.Column("purge_at", sa.Float(), nullable=True))
        table.add_column(sa.Column("with_model", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.create_index("ix_versions_created_at", ["tenant", "created_at"])
        table.create_index("ix_versions_purge_at", ["purge_at"])
    with op.batch_alter_table("aliases") as table:
        table.add_column(sa.Column("previous", sa.String(length=80), nullable=False, server_default=""))
        table.add_column(sa.Column("why", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("alias_moves") as table:
        table.add_column(sa.Column("kind", sa.String(length=16), nullable=False, server_default="SET"))
        table.add_column(sa.Column("reason", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("percent", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("detail", sa.Text(), nullable=False, server_default=""))


def _create_version_tables() -> None:
    of_version = (["tenant", "version"], ["versions.tenant", "versions.version"])
    op.create_table(
        "parents",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("parent", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(*of_version, name="fk_parents_version"),
        sa.PrimaryKeyConstraint("tenant", "version", "position"),
    )
    op.create_index("ix_parents_parent", "parents", ["tenant", "parent"])
    op.create_table(
        "tags",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("tag", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(*of_version, name="fk_tags_version"),
        sa.PrimaryKeyConstraint("tenant", "version", "tag"),
    )
    op.create_index("ix_tags_tag", "tags", ["tenant", "tag"])
    op.create_table(
        "measurements",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("number", _BIG, nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("metric", sa.String(length=128), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("dataset_digest", sa.String(length=80), nullable=False),
        sa.Column("dataset_rows", _BIG, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("principal", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(*of_version, name="fk_measurements_version"),
        sa.PrimaryKeyConstraint("tenant", "version", "number"),
    )
    op.create_index("ix_measurements_metric", "measurements", ["tenant", "metric", "dataset_digest"])


def _create_alias_tables() -> None:
    op.create_table(
        "canaries",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("alias", sa.String(length=32), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("buckets", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "model", "alias"], ["aliases.tenant", "aliases.model", "aliases.alias"], name="fk_canaries_alias"
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "version"], ["versions.tenant", "versions.version"], name="fk_canaries_version"
        ),
        sa.PrimaryKeyConstraint("tenant", "model", "alias", "version"),
    )
    op.create_index("ix_canaries_version", "canaries", ["tenant", "version"])
    op.create_table(
        "gates",
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("gate", sa.String(length=64), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("principal", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "model"], ["models.tenant", "models.model"], name="fk_gates_model"),
        sa.PrimaryKeyConstraint("tenant", "model", "gate"),
    )


def _fill_from_manifests(connection: sa.Connection) -> None:
    text = sa.Text()
    versions = sa.table(
        "versions",
        *(sa.column(name, text) for name in ("tenant", "version", "parent", "manifest", "principal", *_OF_VERSIONS)),
        sa.column("created_at", sa.Float()),
    )
    parents = sa.table("parents", *(sa.column(name) for name in ("tenant", "version", "position", "parent")))
    measurements = sa.table(
        "measurements",
        *(sa.column(name) for name in ("tenant", "version", "number", "source", "metric", "value", "dataset_digest")),
        *(sa.column(name) for name in ("dataset_rows", "note", "principal", "created_at")),
    )
    for row in connection.execute(sa.select(versions)).all():
        manifest = json.loads(row.manifest)
        lineage = manifest["lineage"]
        found = {"base_digest": manifest["base_digest"], "kind": manifest["kind"], "job": lineage["job"]}
        same = (versions.c.tenant == row.tenant) & (versions.c.version == row.version)
        connection.execute(versions.update().where(same).values(**found, dataset_digest=lineage["dataset_digest"]))
        named = {"tenant": row.tenant, "version": row.version}
        if row.parent:
            connection.execute(parents.insert().values(**named, position=0, parent=row.parent))
        for number, (metric, value) in enumerate(sorted(lineage["metrics"].items()), start=1):
            connection.execute(
                measurements.insert().values(
                    **named,
                    number=number,
                    source="training",
                    metric=metric[:128],
                    value=float(value),
                    dataset_digest=lineage["dataset_digest"],
                    dataset_rows=lineage["dataset_rows"],
                    note="",
                    principal=row.principal,
                    created_at=row.created_at,
                )
            )


def _fill_previous(connection: sa.Connection) -> None:
    """The version before the one that serves is where the newest move came from, while both still exist."""
    key = ("tenant", "model", "alias")
    aliases = sa.table("aliases", *(sa.column(name) for name in (*key, "serving", "previous")))
    moves = sa.table("alias_moves", *(sa.column(name) for name in (*key, "number", "from_version", "to_version")))
    versions = sa.table("versions", sa.column("tenant"), sa.column("version"))
    for row in connection.execute(sa.select(aliases)).all():
        of_alias = (moves.c.tenant == row.tenant) & (moves.c.model == row.model) & (moves.c.alias == row.alias)
        last = connection.execute(sa.select(moves).where(of_alias).order_by(moves.c.number.desc()).limit(1)).first()
        if last is None or last.to_version != row.serving:
            continue
        former = (versions.c.tenant == row.tenant) & (versions.c.version == last.from_version)
        if connection.execute(sa.select(versions.c.version).where(former)).first() is None:
            continue
        same = (aliases.c.tenant == row.tenant) & (aliases.c.model == row.model) & (aliases.c.alias == row.alias)
        connection.execute(aliases.update().where(same).values(previous=last.from_version))


def downgrade() -> None:
    """Drop what was added.  What was deleted and not purged is there again; only moves that moved stay in the history."""
    op.execute(sa.text("DELETE FROM alias_moves WHERE kind NOT IN ('SET', 'ROLLBACK')"))
    for created in ("canaries", "gates"):
        op.drop_table(created)
    for index, created in (
        ("ix_measurements_metric", "measurements"),
        ("ix_tags_tag", "tags"),
        ("ix_parents_parent", "parents"),
    ):
        op.drop_index(index, table_name=created)
        op.drop_table(created)
    added = {
        "alias_moves": ("detail", "percent", "reason", "kind"),
        "aliases": ("why", "previous"),
        "models": ("purge_at", "deleted_at", "keep_days", "keep_last", "task", "card"),
    }
    for name, columns in added.items():
        with op.batch_alter_table(name) as table:
            for column in columns:
                table.drop_column(column)
    with op.batch_alter_table("versions") as table:
        table.drop_index("ix_versions_purge_at")
        table.drop_index("ix_versions_created_at")
        for column in ("with_model", "purge_at", "deleted_at", *reversed(_OF_VERSIONS)):
            table.drop_column(column)
