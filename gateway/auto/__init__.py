"""The model name ``auto``: an adapter chosen by what the question means."""
