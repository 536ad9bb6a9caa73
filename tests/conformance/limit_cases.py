"""What both doors must say alike of places: who is inside holds one, and the next is told whether there is another."""

from dataclasses import dataclass

from tests.conformance.limit_skins import ANSWERED

CALLS, STREAMS = "tenant_calls_exhausted", "tenant_streams_exhausted"
# One call and one stream at once.
LIMITS = {"max_calls_per_tenant": 1, "max_streams_per_tenant": 1}
US, THEM = "acme", "globex"


@dataclass(frozen=True, slots=True)
class Case:
    """Verbs of ours that are inside, and what the next one is told, of ours or of another tenant's."""

    says: str
    inside: tuple[str, ...]
    asks: str
    told: str
    by: str = US


CASES = (
    Case("a call too many is refused", ("batch",), "batch", CALLS),
    Case("vectors are a call", ("embed",), "batch", CALLS),
    Case("a stream too many is refused", ("chat",), "chat", STREAMS),
    Case("a chat that is told at its end is a stream", ("whole_chat",), "chat", STREAMS),
    Case("a chat is one beside such", ("chat",), "whole_chat", STREAMS),
    Case("a download is a stream", ("download",), "whole_chat", STREAMS),
    Case("an upload is a stream", ("stalled_upload",), "download", STREAMS),
    Case("no upload where there is a stream too many", ("chat",), "upload", STREAMS),
    Case("a stream holds no place of a call", ("chat",), "batch", ANSWERED),
    Case("an upload holds no place of a call", ("stalled_upload",), "embed", ANSWERED),
    Case("a call holds no place of a stream", ("batch",), "whole_chat", ANSWERED),
    Case("another tenant's calls have their own places", ("batch", "chat"), "batch", ANSWERED, THEM),
    Case("another tenant's streams have their own places", ("batch", "chat"), "whole_chat", ANSWERED, THEM),
)
