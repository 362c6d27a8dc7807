"""Opt-outs are of somebody: none is filed under what an erased conversation is called."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock at once gives up, rather than make every request queue behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    # All rows are looked at while sending waits: there is one for each phone that ever said STOP, a million a second.
    op.create_check_constraint(
        op.f("ck_sms_opt_outs_is_somebody"), "sms_opt_outs", "phone_number_canonical NOT LIKE 'erased:%'"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_constraint(op.f("ck_sms_opt_outs_is_somebody"), "sms_opt_outs", type_="check")
