"""Twilio's Messages REST, as far as its SDKs and the service use it: create, fetch, list, update, delete.

`api` holds the endpoints, `parameters` what is asked and whether it is allowed, `resource` the JSON, `listing` filters
and pages, `errors` the codes, `status_callbacks` the receipts. Paths and shapes are Twilio's own; only JSON is spoken.
"""
