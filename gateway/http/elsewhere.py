"""Where to go from what is not served: OpenAI's API has more than this door, and a bare refusal would say nothing.

Invariant: nothing is promised here that the document does not describe, and no path of OpenAI's own client is without a
word here.
"""

_DOCUMENT = "GET /openapi.json tells every route that is served"
_CONVERSATION = "conversations go on by previous_response_id of POST /v1/responses"
_FUNCTIONS = "the caller runs its own functions, which the model calls by tools of POST /v1/responses"
_SPEECH = "no model here hears or speaks; stream POST /v1/responses or POST /v1/chat/completions"
_GOVERNANCE = (
    "tenants, projects, users, keys, usage and the audit log are the service access's: gRPC trivium.access.v1, or the commands "
    "trivium tenants, projects, users, keys, usage and audit"
)
_POLICY = "content is judged by the tenant's content policy, before and after it is generated"
_CALLBACKS = "nobody is called from here; ask with GET how far it is"
# By the first parts of the path under /v1; of several that fit the longest counts.
_INSTEAD = {
    "agents": f"nothing runs here on its own; {_FUNCTIONS}",
    "assistants": "conversations with files are POST /v1/responses with file_search",
    "audio": "no model here hears or speaks",
    "chat/completions": (
        "what is asked of POST /v1/chat/completions is not stored; POST /v1/responses stores its answers, and "
        "GET /v1/responses/ID reads one"
    ),
    "chatkit": _CONVERSATION,
    "containers": f"no code is run here; {_FUNCTIONS}",
    "content_provenance_checks": "what an answer was made of is told by GET /v1/trivium/receipts/ID",
    "conversations": _CONVERSATION,
    "decisions": "use POST /v1/chat/completions with trivium.choice, or with a response_format",
    "edits": "use POST /v1/chat/completions",
    "engines": "use GET /v1/models",
    "evals": "nothing is judged here; have the questions answered by POST /v1/batches, and judge its output file",
    "fine_tuning/alpha": "no grader is run here: a job's method is supervised or dpo, of POST /v1/fine_tuning/jobs",
    "fine_tuning/checkpoints": (
        "a checkpoint is its tenant's alone and is shared with nobody else; GET /v1/fine_tuning/jobs/ID/checkpoints lists "
        "those of a job"
    ),
    "images": "no model here draws",
    "live": _SPEECH,
    "moderations": _POLICY,
    "organization": _GOVERNANCE,
    "projects": _GOVERNANCE,
    "realtime": _SPEECH,
    "responses": "stream: true of POST /v1/responses tells events as they come; nothing is spoken over a web socket",
    "responses/compact": f"nothing is shortened here; {_CONVERSATION}, and one that is too long is begun anew",
    "safety": _POLICY,
    "skills": f"no code is run here; {_FUNCTIONS}",
    "threads": _CONVERSATION,
    "uploads": "send the whole file to POST /v1/files, which is passed on while it comes and has no part to keep",
    "vaults": "no secret of others is kept here, for nothing is called from here",
    "videos": "no model here films",
    "webhook_endpoints": _CALLBACKS,
    "webhook_event_types": _CALLBACKS,
}


def instead(path: str) -> str:
    """What to use instead of what is not served at a path."""
    known = _known(path)
    return f"{known}; {_DOCUMENT}" if known else _DOCUMENT


def _known(path: str) -> str | None:
    if not path.startswith("/v1/"):
        return None
    parts = path.removeprefix("/v1/").split("/")
    heads = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((_INSTEAD[head] for head in heads if head in _INSTEAD), None)
