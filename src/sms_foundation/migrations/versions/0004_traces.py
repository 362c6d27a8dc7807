"""Where messages and work come from: the trace, and the request."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock at once gives up, rather than make every request queue behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Without a default no row is rewritten, and rows of before have none.
    op.add_column(
        "sms_messages", sa.Column("trace_context", sa.Text(), comment="traceparent of the request that brought it")
    )
    op.add_column("sms_messages", sa.Column("request_id", sa.Text(), comment="X-Request-ID of that request"))
    op.add_column("work", sa.Column("trace_context", sa.Text(), comment="traceparent of what caused it"))
    op.add_column("work", sa.Column("request_id", sa.Text(), comment="the request that caused it"))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_column("work", "request_id")
    op.drop_column("work", "trace_context")
    op.drop_column("sms_messages", "request_id")
    op.drop_column("sms_messages", "trace_context")
