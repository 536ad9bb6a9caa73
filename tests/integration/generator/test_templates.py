"""A version that brings its chat template, through registry and generator; and templates that mean harm."""

import hashlib
from typing import Any

import pytest
from trivium.common.v1 import chat_pb2
from trivium.generator.v1 import generator_pb2

from tests.generating import SuiteGenerator, adapter_files, tenant_of
from tests.integration.generator.conftest import Marks
from tests.stack import refused

OWN = "{% for m in messages %}<<{{ m.role }}>> {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<<reply>> {% endif %}"


def publish(served: SuiteGenerator, marks: Marks, template: str, salt: int) -> Any:
    files = {**adapter_files(marks.adapters[0]), "chat_template.jinja": template.encode()}
    lineage = {"metrics": {"salt": float(salt)}}
    return marks.tenant.registry.publish("styled", files, base_digest=served.base.digest, lineage=lineage)


def conversation(text: str) -> generator_pb2.Conversation:
    return generator_pb2.Conversation(messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)])


def test_a_version_answers_under_the_template_that_it_brings_and_the_receipt_names_it(
    served: SuiteGenerator, marks: Marks
) -> None:
    version, api = publish(served, marks, OWN, 1), marks.tenant.generator.api
    digest = f"sha256:{hashlib.sha256(OWN.encode()).hexdigest()}"
    assert version.template_digest == digest
    answer = marks.tenant.generator.answer("Hello", version.version)
    assert set(answer.token_ids) == {marks.adapters[0].token_id}
    assert answer.receipt.template_digest == digest
    written = api.Tokenize(generator_pb2.TokenizeRequest(text="<<user>> Hello\n<<reply>> ")).token_ids
    asked = generator_pb2.TokenizeRequest(conversation=conversation("Hello"), version=version.version)
    assert api.Tokenize(asked).token_ids == written
    assert answer.final.usage.prompt_tokens == len(written)
    plain = generator_pb2.TokenizeRequest(conversation=conversation("Hello"), version=marks.versions[0])
    assert api.Tokenize(plain).token_ids != written
    assert marks.tenant.generator.answer("Hello", marks.versions[0]).receipt.template_digest != digest


@pytest.mark.parametrize("whose", ["another tenant's", "nobody's"])
def test_a_template_that_is_not_ones_own_looks_like_one_that_is_not_there(
    served: SuiteGenerator, marks: Marks, whose: str
) -> None:
    version = publish(served, marks, OWN, 2).version if whose == "another tenant's" else f"sha256:{'0' * 64}"
    stranger = tenant_of(served).generator
    asked = generator_pb2.TokenizeRequest(conversation=conversation("Hello"), version=version)
    with refused("VERSION_NOT_FOUND") as failures:
        stranger.api.Tokenize(asked)
    told = failures[0].variables
    assert (told["name"], told.get("fate", "")) == (version, "")


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ ('x' * 99999) * 99999 }}",
        "{{ cycler.__init__.__globals__.os.system('id') }}",
        "{{ raise_exception('not so') }}",
    ],
)
def test_a_template_that_means_harm_is_refused_and_the_engine_answers(
    served: SuiteGenerator, marks: Marks, template: str
) -> None:
    version = publish(served, marks, template, len(template))
    with refused("TEMPLATE_UNRENDERABLE"):
        marks.tenant.generator.answer("Hello", version.version)
    assert marks.tenant.generator.answer("What is the capital of Japan?").text == "The capital of Japan is Tokyo."
