"""Indexes: what can be thrown away and built again from the catalog."""
