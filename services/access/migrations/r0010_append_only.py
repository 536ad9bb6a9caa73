"""The database itself lets nobody change an audit event or take one out; it takes new ones.

What the chain of hashes tells afterwards is refused here beforehand, to everybody who may write rows and not change the
schema: a fault of ours, a statement by hand.  Nothing of ours changes or removes events.  A later revision that rebuilds the
table on SQLite has to make these triggers again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_SAYS = "the audit log is append-only"
# INSERT OR REPLACE takes rows out without a delete that a trigger would see.
_ANOTHER = (
    "SELECT 1 FROM audit WHERE tenant = NEW.tenant AND sequence = NEW.sequence"
    " UNION ALL SELECT 1 FROM audit WHERE tenant = NEW.tenant AND event_id = NEW.event_id"
)
_SQLITE = {
    "audit_not_updated": "BEFORE UPDATE ON audit",
    "audit_not_deleted": "BEFORE DELETE ON audit",
    "audit_not_replaced": f"BEFORE INSERT ON audit WHEN EXISTS ({_ANOTHER})",
}
_FUNCTION = f"""
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION '{_SAYS}' USING ERRCODE = 'restrict_violation';
END
$body$
"""
# Once a statement, so that one that empties the table is seen too.
_TRIGGER = """
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()
"""


def upgrade() -> None:
    """Create the triggers."""
    if op.get_bind().dialect.name == "sqlite":
        for name, when in _SQLITE.items():
            _run(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, '{_SAYS}'); END")
        return
    _run(_FUNCTION)
    _run(_TRIGGER)
    # Also where a session says that it replicates, which leaves out all others.
    _run("ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_append_only")


def downgrade() -> None:
    """Drop them."""
    if op.get_bind().dialect.name == "sqlite":
        for name in _SQLITE:
            _run(f"DROP TRIGGER {name}")
        return
    _run("DROP TRIGGER audit_append_only ON audit")
    _run("DROP FUNCTION audit_append_only()")


def _run(statement: str) -> None:
    op.get_bind().execute(sa.text(statement))
