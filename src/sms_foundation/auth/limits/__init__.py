"""How much is allowed: requests of a client, messages to a phone, wrong credentials from an address."""
