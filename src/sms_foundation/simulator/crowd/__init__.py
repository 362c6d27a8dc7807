"""Tenants who text in English, Spanish and Portuguese: the same ones, saying the same, for the same seed.

`texts` holds what they say, `generator` decides who says what next, `runs` lets them say it to the service at a pace.
"""
