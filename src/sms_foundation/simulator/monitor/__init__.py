"""A stand-in for the Collections Monitor and the tenant profile service, with made-up tenants and faults on demand.

Enter through `router` (HTTP) and `Monitor` (its state). Numbers are matched as they were typed in, not normalised, as
in the real one: only one of the variants that a caller tries finds a given tenant.
"""
