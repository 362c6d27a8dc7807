"""Misbehaviour on demand: rules by provider, phone, share and count, drawn with a seeded generator.

`rules` says what can go wrong, `book` decides of each request, message and receipt whether it does, `router` sets rules
over HTTP. What a fault looks like on the wire is the business of `rest/`; the carrier asks the book for the rest.
"""
