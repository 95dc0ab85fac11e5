"""The CC-FS worker: download jobs in from RabbitMQ, verified files and confirmed outcomes out."""
