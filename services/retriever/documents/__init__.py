"""Documents, their versions, their metadata and who may read them."""
