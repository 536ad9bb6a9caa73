"""Datasets: what is uploaded, how it is read and checked, and the tokens that a run trains on."""
