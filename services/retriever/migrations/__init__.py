"""The retriever's schema, one revision a change; run by ``chassis.database`` when the service starts."""
