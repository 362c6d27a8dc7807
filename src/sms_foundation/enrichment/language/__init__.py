"""Which of English, Spanish and Portuguese a text is in, offline and from the text alone.

Enter through `detect`. The detector keeps no state about conversations and reads nothing but its own data file, which
it loads on the first call.
"""

from sms_foundation.enrichment.language.detector import detect

__all__ = ["detect"]
