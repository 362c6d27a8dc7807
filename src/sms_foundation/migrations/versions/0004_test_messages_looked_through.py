"""Test messages: the constraint is validated, and the index made, while everybody reads and writes.

Can be repeated wherever it was stopped: what is valid already is not read again, half an index is made anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Longer than elsewhere: nobody who reads or writes queues behind this lock, and a VACUUM may hold it for a while.
    op.execute("SET LOCAL lock_timeout = '1min'")
    # An index that a killed migration began is still being made by its server process. LOCK waits for that one without
    # a snapshot; ALTER TABLE would wait with one, and that process for it in turn.
    op.execute("LOCK TABLE sms_messages IN SHARE UPDATE EXCLUSIVE MODE")
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
    op.execute("SET LOCAL lock_timeout = '1min'")
    op.execute("LOCK TABLE sms_messages IN SHARE UPDATE EXCLUSIVE MODE")
    # The constraint stays validated: it refuses what it refused before.
    with op.get_context().autocommit_block():
        op.drop_index(
            "ix_sms_messages_is_test", table_name="sms_messages", postgresql_concurrently=True, if_exists=True
        )
