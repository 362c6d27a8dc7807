"""Who calls, and what they may do: clients, keys, tokens, people, roles, limits, and the record of what was done.

Enter through `gate.Gate`, which every request passes before its route runs; routes read the caller from `principal`.
Knows nothing of messages: which route needs which permission stands in `access_rules`, above.
"""
