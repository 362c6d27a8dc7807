"""Conversations, messages and what became of them: stored once, kept true, read back.

Owns `sms_conversations`, `sms_messages` and `sms_message_status_events`; nobody else writes to them. Enter through
`ingest` and `delivery` (hot paths), `history` (reads), `service` (everything else). Knows no provider's dialect.
"""
