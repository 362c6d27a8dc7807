"""Test messages: the constraint is validated, and the index made, while everybody reads and writes.

Can be repeated wherever it was stopped: what is valid already is not read again, half an index is made anew.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


# The server goes on making an index when the migration that asked for it was killed.
_STOP_IT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_progress_create_index WHERE relid = 'sms_messages'::regclass
"""
_ASK_AGAIN_S = 0.2


def upgrade() -> None:
    _stop_abandoned_work()
    # Longer than elsewhere: nobody who reads or writes queues behind this lock, and a VACUUM may hold it for a while.
    op.execute("SET LOCAL lock_timeout = '1min'")
    op.execute("ALTER TABLE sms_messages VALIDATE CONSTRAINT ck_sms_messages_is_test")
    with op.get_context().autocommit_block():
        op.drop_index(
            "ix_sms_messages_is_test", table_name="sms_messages", postgresql_concurrently=True, if_exists=True
        )
        op.create_index(
            "ix_sms_messages_is_test",
            "sms_messages",
            ["id"],
            unique=False,
            postgresql_where=sa.text("is_test"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    _stop_abandoned_work()
    op.execute("SET LOCAL lock_timeout = '1min'")
    # The constraint stays validated: it refuses what it refused before.
    with op.get_context().autocommit_block():
        op.drop_index(
            "ix_sms_messages_is_test", table_name="sms_messages", postgresql_concurrently=True, if_exists=True
        )


def _stop_abandoned_work() -> None:
    """End what still makes an index; with a transaction for each look, since that waits for older transactions."""
    context = op.get_context()
    with context.autocommit_block():
        while not context.as_sql and op.get_bind().scalar(sa.text(_STOP_IT)):
            time.sleep(_ASK_AGAIN_S)
