"""What a text tells beyond its words: whose number it is (`tenants`), which language it is in (`language`).

Runs in background work, never in a webhook's request; each half can fail and be repeated without the other.
"""
