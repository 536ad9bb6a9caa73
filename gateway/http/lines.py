"""What a line of a batch asks: its body as the route that it is asked at reads it."""

from trivium.gateway.v1 import gateway_pb2

from gateway import wire
from gateway.asking.question import Question
from gateway.chat import Conversation
from gateway.http.parsing import parse
from gateway.http.requests import of_chat, of_completion
from gateway.http.responses import requests as responses
from gateway.http.schemas import ChatCompletion, TextCompletion
from gateway.http.transport import Asked
from gateway.replaying.nouns import Line
from gateway.responses import nouns
from gateway.responses import wire as responses_wire


def read(line: Line) -> Conversation | Question | nouns.Asked | None:
    """What it asks; None where no model answers that.  Raises as the route does."""
    match line.path:
        case "/v1/chat/completions":
            sent = of_chat(parse(ChatCompletion, line.body), "")
            return wire.question(sent) if isinstance(sent, gateway_pb2.AskRequest) else wire.conversation(sent)
        case "/v1/completions":
            return wire.continuation(of_completion(parse(TextCompletion, line.body), ""))
        case "/v1/responses":
            return responses_wire.asked(responses.create(responses.read(Asked(line.body)), ""))
    return None
