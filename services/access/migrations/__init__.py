"""The schema of access, one revision a change; run by ``chassis.database`` when the service starts."""
