"""Which numbers may be texted: an allowlist and a denylist of numbers and of what numbers begin with.

Owns `auth_number_rules`. Enter through `current.CurrentRules` to ask, through `service` to change; `matching` decides.
"""
