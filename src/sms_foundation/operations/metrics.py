"""What a process says about itself."""

from prometheus_client import Gauge

# role: api (answers webhooks and callers), work (does background work). A process that is gone says nothing, which is
# what alerts ask for: unlike `up` this tells apart who is missing, whatever started the processes.
READY = Gauge("sms_ready", "1: this process can do that part of the work now", ["role"])
