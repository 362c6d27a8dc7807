"""One person's data: everything stored about a number read out (`export`), or erased (`erasing`).

Each module reads and erases its own tables (`*/personal_data.py`); here is decided in which order, what stays, and what
is written to the audit log. `decisions` says for every table what becomes of it. Entered from the command line.
"""
