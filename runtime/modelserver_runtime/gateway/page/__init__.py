"""The gateway's page: models as they are now, a playground, and keys for who may make them."""
