"""Messages that go out: accepted at once, sent once, in order, through whichever provider works.

Enter through `accept` (store a request), `dispatch` (send what is due) and `router` (the API). `store` holds the SQL of
sending; `routing`, `health` and `retries` are pure. Provider dialects stay in `providers/`, receipts in
`messaging.delivery`.
"""
