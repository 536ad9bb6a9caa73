"""The schema of files, one revision a change; run by ``chassis.database`` when the service starts."""
