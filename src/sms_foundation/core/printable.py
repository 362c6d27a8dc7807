"""Text of others, fit for one line of a log or a terminal."""


def escape_unprintable(text: str) -> str:
    r"""Return `text` with everything that does not print on one line written as an escape (`\x1b`, `\n`, `\u202e`).

    That is what would start a line of its own, steer the terminal that shows it, or turn its neighbours around.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
