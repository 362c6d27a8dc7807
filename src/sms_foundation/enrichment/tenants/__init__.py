"""Which tenant a number belongs to, as the Collections Monitor knows it, and telling the tenant's language to others.

Enter through `lookup.TenantLookup` and `profile.TenantProfile`, which only talk to the outside services and open no
session: what a match means for a conversation is decided by whoever asks.
"""
