"""From a durable document to a searchable version."""
