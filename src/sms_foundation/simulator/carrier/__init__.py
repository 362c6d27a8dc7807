"""What stands behind every provider: a message accepted travels to a phone, and receipts travel back.

Knows no provider's dialect: `rest/` translates. Enter through `carrier.Carrier.accept`; `schedule` decides when,
`record` keeps what was accepted and what arrived, `receipts` hands reports to the dialect that delivers them.
"""
