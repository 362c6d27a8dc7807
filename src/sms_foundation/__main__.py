"""`python -m sms_foundation` is the `sms-foundation` command."""

from sms_foundation.cli import main

main()
