"""Files through the gateway: the service of files owns them; here they only pass."""
