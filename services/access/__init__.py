"""access: tenants, keys and roles; signs the assertions that every other service checks."""
