"""Requests that stream while adapters come and go, and the checks that hold each answer to the weights it names."""
