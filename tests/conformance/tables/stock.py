"""Data that the cases of the tables use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stock:
    """Names and ids of one tenant, as far as the cases of a table need them.

    A file of requests, its batch, a vector store of one passage, a stored response and an encoder; a model, the version
    that its alias serves, that version's number, questions that the model is and is not for, and the id of an answer.
    """

    file: str = ""
    batch: str = ""
    store: str = ""
    response: str = ""
    encoder: str = ""
    model: str = ""
    version: str = ""
    number: int = 0
    meant: str = ""
    unmeant: str = ""
    request_id: str = ""
