"""Everything that every service needs exactly once, so that a service is only its domain.

Import from the modules of this package by name (``services.chassis.errors``,
``services.chassis.server``); the package itself imports nothing, which keeps
the start of a process and of a command-line tool short.
"""
