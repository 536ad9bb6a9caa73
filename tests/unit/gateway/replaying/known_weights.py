"""Weights whose every word is known, the peers of a replay, and a receipt of what these weights say."""

import hashlib
import struct
from dataclasses import replace

from gateway.answering import Answerer, Wish
from gateway.chat import Conversation
from gateway.generation import (
    FinishReason,
    Generated,
    Message,
    Opening,
    Receipt,
    Sampling,
    SourceSpan,
    Speaker,
    TextDelta,
    TokenIds,
    TokenLogprob,
    Usage,
)
from gateway.replaying.generating import Generating
from gateway.replaying.nouns import Recalled, Reread
from gateway.replaying.replayer import Replayer
from gateway.routing import ModelKind, Route
from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason

BASE, VERSION = "sha256:" + "b" * 64, "sha256:" + "a" * 64
END = "<|end|>"
ASKING = RequestContext("ada", "key1", frozenset({Role.MEMBER}), Bearer(), "id", None, "/ReplayAnswer")
TURNS = (Message(Speaker.USER, "Where does the ferry go?"),)
SPAN = SourceSpan("ferry", "fares.md", "v" * 64, 0, 20, "k", 1)
# What the weights say after what: the likeliest tokens with their logarithms, best first.
SAYS = {
    "": [("The", -0.1), ("A", -3.0)],
    "The": [(" ferry", -0.70), (" boat", -0.72), (" ship", -4.0)],
    "The ferry": [(" sails", -0.2), (" sinks", -5.0)],
    "The ferry sails": [(END, -0.1), (" on", -3.0)],
    "The boat": [(" floats", -0.2), (" sinks", -5.0)],
    "The boat floats": [(END, -0.1)],
}
WORDS = [END, *dict.fromkeys(word for likely in SAYS.values() for word, _ in likely)]


def digest(ids):
    return f"sha256:{hashlib.sha256(struct.pack(f'<{len(ids)}i', *ids)).hexdigest()}"


def ids(*words):
    return [WORDS.index(word) for word in words]


def characters(prompt):
    return tuple(
        map(ord, prompt if isinstance(prompt, str) else repr([(turn.speaker, turn.content) for turn in prompt]))
    )


class Weights:
    """Greedy over ``SAYS``; a prompt's tokens are its characters, then those of the answer that it goes on with."""

    def __init__(self, prompt=TURNS):
        self.prompt = prompt
        self.requests = []
        self.says = SAYS
        self.version, self.base, self.build = "", BASE, "engine 1"
        self.fails = None
        # Whether tokens are the prompt with a part of the answer behind it, or a prompt of their own.
        self.continues = True

    async def token_ids(self, prompt, tools, base, version):
        return characters(prompt)

    async def generate(self, request):
        self.requests.append(request)
        if self.fails is not None:
            raise self.fails
        receipt = self.receipt(request)
        yield Opening(receipt)
        said = self.begun(request)
        begun, made = len(said), []
        while len(said) < begun + (request.sampling.max_tokens or 256):
            likely = self.says["".join(said)]
            top = tuple(TokenLogprob(word, WORDS.index(word), logprob) for word, logprob in likely)
            said.append(likely[0][0])
            made.append(top[0].token_id)
            told = (replace(top[0], top=top[: request.sampling.logprobs]),)
            yield TextDelta("" if said[-1] == END else said[-1], told if request.sampling.logprobs else (), 1)
            if said[-1] == END:
                break
        yield Generated(FinishReason.STOP, Usage(5, len(made)), (), replace(receipt, completion_digest=digest(made)))

    def begun(self, request):
        if not isinstance(request.prompt, TokenIds) or not self.continues:
            return []
        own = characters(self.prompt)
        assert request.prompt.ids[: len(own)] == own
        return [WORDS[number] for number in request.prompt.ids[len(own) :]]

    def receipt(self, request):
        return Receipt(
            "", self.build, self.base, self.version, sampling=request.sampling, usage=Usage(5), template_digest="t"
        )


class Peers:
    """The ledger, the registry, the documents and the recorder at once."""

    def __init__(self, receipt, weights):
        self.kept = receipt
        self.weights = weights
        self.recorded = []
        self.versions = {f"desk@{VERSION}"}
        self.texts = {"fares.md": Reread(SPAN, "Fares", "A ticket is 9 crowns")}
        self.collections = {"ferry": "v2"}

    async def receipt(self, request_id):
        if request_id != self.kept.request_id:
            raise Failure(Reason.RECEIPT_NOT_FOUND, name=request_id)
        return self.kept

    async def resolve(self, name, sticky_key=""):
        if name not in self.versions:
            raise Failure(Reason.MODEL_NOT_FOUND, name=name)
        return Route(name, name, ModelKind.ADAPTER, name.partition("@")[2], base_digest=BASE, fallback="base")

    async def read(self, span, as_readers):
        return self.texts.get(span.document, Reread(span))

    async def found(self, named, receipt):
        assert receipt == self.kept
        return Recalled(named.request_id, Conversation(TURNS, Wish()), named.answer, named.rewritten)

    async def version(self, collection):
        return self.collections.get(collection, "")

    async def record(self, tenant, principal, method, receipt, project=""):
        self.recorded.append(receipt)

    def record_cancelled(self, *told):
        raise AssertionError("nobody left")


def receipt(words=("The", " ferry", " sails", END), prompt=TURNS, **changes):
    kept = Receipt(
        "r1",
        "engine 1",
        BASE,
        requested_model="base",
        resolved_model="base",
        template_digest="t",
        prompt_tokens_digest=digest(characters(prompt)),
        sampling=Sampling(max_tokens=8, temperature=0.0, n=1, seed=7),
        usage=Usage(len(characters(prompt)), len(words)),
        completion_digest=digest(ids(*words)),
    )
    return replace(kept, **changes)


def replaying(weights, peers, policing=None):
    generating = Generating(Answerer(weights, peers), lambda: 0.0, iter("123456789").__next__, policing)
    return Replayer(peers, peers, weights, peers, generating, peers)


async def replayed(answer=None, kept=None, weights=None, asked=None, peers=None, policing=None, **recalled):
    weights = weights or Weights()
    peers = peers or Peers(kept or receipt(), weights)
    replayer = replaying(weights, peers, policing)
    named = recalled.pop("named", None)
    with serving(ASKING):
        whole = Recalled("r1", asked or Conversation(TURNS, Wish()), answer, **recalled)
        wanted = named or whole
        return await replayer.replay(wanted, await replayer.receipt(wanted.request_id)), peers
