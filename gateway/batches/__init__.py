"""Batches through the gateway: the service of files runs them; here they only pass."""
