"""People: invitations, passwords, log-ins and their refresh tokens."""
