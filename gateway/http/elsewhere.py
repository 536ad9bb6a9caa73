"""Where to go from a path that is not served: OpenAI's API has more than this door, and a bare refusal would say nothing.

Invariant: nothing is promised here that the document does not describe.
"""

_DOCUMENT = "GET /openapi.json tells every route that is served"
# By the first part of the path under /v1.
_INSTEAD = {
    "assistants": "conversations with files are POST /v1/responses with file_search",
    "audio": "no model here hears or speaks",
    "conversations": "conversations go on by previous_response_id of POST /v1/responses",
    "edits": "use POST /v1/chat/completions",
    "engines": "use GET /v1/models",
    "images": "no model here draws",
    "moderations": "content is judged by the tenant's content policy, before and after it is generated",
    "realtime": "stream POST /v1/responses or POST /v1/chat/completions",
    "threads": "conversations go on by previous_response_id of POST /v1/responses",
    "uploads": "send the whole file to POST /v1/files, which is passed on while it comes and has no part to keep",
    "videos": "no model here films",
}


def instead(path: str) -> str:
    """What to use instead of a path that is not served."""
    family = path.removeprefix("/v1/").partition("/")[0]
    known = _INSTEAD.get(family) if path.startswith("/v1/") else None
    return f"{known}; {_DOCUMENT}" if known else _DOCUMENT
