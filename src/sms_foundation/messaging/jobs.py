"""The work that messaging leaves behind. Which handler runs a kind is decided in `worker.py`."""

# ref_id: the id of an inbound message that was just stored and wants its tenant and language.
MESSAGE_RECEIVED = "message_received"
# ref_id: the id of a status event that arrived before its message.
RECEIPT_UNMATCHED = "receipt_unmatched"
# ref_id: the id of an outbound message whose turn it is to be sent; ordered per recipient and priority.
SEND_MESSAGE = "send_message"
# ref_id: the same for a message that was asked for with a test key: only the simulated provider gets it.
SEND_TEST_MESSAGE = "send_test_message"
# ref_id: the id of an outbound message that was scheduled; becomes one of these two when its time has come.
RELEASE_MESSAGE = "release_message"
# Recurring: the state of the providers, seen over time.
TEND_PROVIDERS = "tend_providers"
# Recurring: messages without an end, texts that never reached us, contents whose time is over.
RECONCILE_MESSAGES = "reconcile_messages"
