"""Damaged and hostile adapters, in classes, built by code: what an engine has to outlive."""
