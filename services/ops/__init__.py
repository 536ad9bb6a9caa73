"""What surrounds the services: set-up, generated code, deployment and the demo."""
