"""Where everything comes from: the trace context, always carried along, and spans, only where they are switched on.

Enter through `context` (what is current, and the `traceparent` of rows and requests), `tracer` (what the rest of the
code knows of spans) and `opening` (the tracer of a process, if it has one). OpenTelemetry itself is imported by
`open_telemetry` alone, which is loaded only with TRACING=true.
"""
