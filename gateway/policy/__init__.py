"""What a tenant asks and is answered, judged by a server of the operator's own: see :mod:`gateway.policy.policing`."""
