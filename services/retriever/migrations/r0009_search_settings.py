"""Collections say how they are searched where a request does not."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every collection is searched as the deployment says."""
    with op.batch_alter_table("collections") as table:
        table.add_column(sa.Column("search_settings_json", sa.Text(), nullable=False, server_default="{}"))


def downgrade() -> None:
    """Forget the settings."""
    with op.batch_alter_table("collections") as table:
        table.drop_column("search_settings_json")
