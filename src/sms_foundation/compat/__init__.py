"""Ways in that existing callers use; each is translated into the sending API and does exactly what that does.

Nothing new belongs here. Enter through `router`.
"""
