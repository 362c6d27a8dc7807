"""The providers' own REST APIs, as the service calls them: one folder or file per dialect, dialect only.

`app` hands each path to its dialect, `gate` lets the fault rules have their way, `no_answer` cuts connections,
`callbacks` calls the service back. What becomes of an accepted message is the business of `carrier/`.
"""
