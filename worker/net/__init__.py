"""The network below AMQP and HTTP: dialling an address, TLS, and URLs that hold a login."""
