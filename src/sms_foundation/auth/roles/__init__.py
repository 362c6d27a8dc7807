"""Roles: the built-in ones, those of one's own, who may hand them on (`granting`), and that somebody always manages."""
