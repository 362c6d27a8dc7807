"""The work that enrichment leaves behind for itself."""

# ref_id: a conversation whose number should be looked up again.
LOOK_UP_CONVERSATION = "look_up_conversation"
# ref_id: a tenant (our id) whose profile should learn their language.
TELL_LANGUAGE = "tell_language"
# Recurring; ref_id is nil.
RECONCILE = "reconcile_tenants"
