"""Looking a live database and its surroundings over, and saying what to do: `sms-foundation doctor`.

Reads and asks, writes nothing, and stays out of the service's way (`reading`). Enter at `examination.examine`; each
check is a module of its own, `findings` says in what shape they answer.
"""
