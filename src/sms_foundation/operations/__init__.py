"""What probes, Prometheus and people are told about one process, whether it is a service or a worker alone.

Asks every dependency, decides nothing. Enter at `router.operations_routers` (the routes, for the service) and at
`port.operations_port` (a port with these routes and nothing else, for a worker).
"""
