"""Invitations over HTTP, for those who manage clients."""
