"""The work that messaging leaves behind. Which handler runs a kind is decided in `worker.py`."""

# ref_id: the id of an inbound message that was just stored and wants its tenant and language.
MESSAGE_RECEIVED = "message_received"
# ref_id: the id of a status event that arrived before its message.
RECEIPT_UNMATCHED = "receipt_unmatched"
