"""Chat templates of strangers: rendered as transformers renders them, and harmless whatever they try."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from services.chassis.errors import Failure, Reason
from services.chassis.models import DEFAULT_BASE, resolve
from services.generator.conversation import Turn, Unrenderable
from services.generator.templates import BroughtTemplate, ChatTemplates
from services.generator.tokenizer import BaseTokenizer
from tests.harness.timeouts import HANG_SECONDS

TURNS = [Turn("system", "Be brief."), Turn("user", "Grüß <b>Gott</b>"), Turn("assistant", "Yes."), Turn("user", "Why?")]
PLAIN = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
CHILD = Path(__file__).parents[3] / "services" / "generator" / "template_child.py"
TOKENS = {"bos_token": "<s>"}


@pytest.fixture
async def templates():
    opened = ChatTemplates(children=2)
    yield opened
    await opened.close()


def brought(folder, text, tenant="t"):
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = folder / f"{tenant}-{digest[:8]}.jinja"
    path.write_text(text)
    return BroughtTemplate(tenant, f"sha256:{digest}", path.read_text)


async def test_a_template_sees_turns_and_special_tokens(templates, tmp_path):
    text = await templates.render(brought(tmp_path, PLAIN), TOKENS, TURNS[1:2])
    assert text == "<s>[user] Grüß <b>Gott</b>\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "{%- for m in messages %}\n    {%- if loop.index > 3 %}{% break %}{% endif %}\n  {{ m | tojson }}\n{%- endfor %}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{% if add_generation_prompt %}{{ strftime_now('%Y') }}{% endif %}{{ tools is none }}",
        "base",
    ],
)
async def test_it_renders_what_transformers_renders(templates, tmp_path, text):
    tokenizer = AutoTokenizer.from_pretrained(resolve(DEFAULT_BASE).path, local_files_only=True)
    text = tokenizer.chat_template if text == "base" else text
    messages = [{"role": turn.role, "content": turn.content} for turn in TURNS]
    theirs = tokenizer.apply_chat_template(messages, chat_template=text, tokenize=False, add_generation_prompt=True)
    assert await templates.render(brought(tmp_path, text), tokenizer.special_tokens_map, TURNS) == theirs


HOSTILE = {
    "an endless loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "an endless loop in native code": "{{ 9 ** (9 ** 9) }}",
    "a regular bomb of text": "{{ ('x' * 99999) * 99999 }}",
    "a bomb that grows": "{% set x = namespace(s='x') %}{% for i in range(60) %}{% set x.s = x.s + x.s %}{% endfor %}",
    "memory that does not show": "{% set n = messages | length * 200000000 %}{% set x = 'x' * n %}quiet",
    "a flood": "{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}",
    "a class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals of a function": "{{ cycler.__init__.__globals__.os.system('id') }}",
    "globals of our own function": "{{ raise_exception.__globals__.keys() }}",
    "an attribute by filter": "{{ (''|attr('__class__')).mro() }}",
    "an attribute by format": "{{ '{0.__class__.__mro__}'.format('') + 1 }}",
    "a generator's frame": "{{ (messages|map('upper')).gi_frame.f_back }}{{ 1 + 'x' }}",
    "a change of what it was given": "{{ messages.clear() }}",
    "an import": "{% import '/etc/passwd' as x %}{{ x }}",
    "a file": "{% include '/etc/passwd' %}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "brackets without end": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "blocks without end": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "no Jinja": "{% for %}",
    "a refusal of its own": "{{ raise_exception('roles must alternate') }}",
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_what_is_hostile_is_refused(templates, tmp_path, what):
    with pytest.raises(Failure) as caught:
        await templates.render(brought(tmp_path, HOSTILE[what]), TOKENS, TURNS)
    assert caught.value.reason is Reason.TEMPLATE_UNRENDERABLE
    assert "root:" not in caught.value.sentence


async def test_a_template_learns_nothing_of_the_machine(templates, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIVIUM_SECRET", "hush")
    names = "{{ self }}{% for name in ['os', 'sys', 'env', 'request', 'config'] %}{{ name in self }}{% endfor %}"
    for text in (names, "{{ lipsum(1) }}", "{{ dict(a=1) }}{{ range(3) | list }}{{ debug }}"):
        with_it = brought(tmp_path, text)
        try:
            said = await templates.render(with_it, TOKENS, TURNS)
        except Failure as failure:
            said = failure.sentence
        assert "hush" not in said


async def test_a_child_keeps_its_compiled_template_and_is_never_given_another_tenants(templates, tmp_path):
    mine, yours = brought(tmp_path, PLAIN, "a"), brought(tmp_path, PLAIN, "b")
    await templates.render(mine, TOKENS, TURNS)
    [child] = pids(templates)
    await templates.render(mine, TOKENS, TURNS)
    assert pids(templates) == [child]
    await templates.render(yours, TOKENS, TURNS)
    assert len(set(pids(templates))) == 2
    await templates.render(brought(tmp_path, PLAIN + "!"), TOKENS, TURNS)
    assert len(pids(templates)) == 2
    assert child not in pids(templates)


async def test_a_tenants_slow_template_keeps_no_other_waiting(templates, tmp_path):
    endless, answered = brought(tmp_path, HOSTILE["an endless loop"], "a"), threading.Event()

    def read():
        answered.wait(HANG_SECONDS)
        return endless.read()

    slow = replace(endless, read=read)
    slowly = [asyncio.ensure_future(templates.render(slow, TOKENS, TURNS)) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(HANG_SECONDS):
        assert await templates.render(brought(tmp_path, PLAIN, "b"), TOKENS, TURNS)
    assert not any(task.done() for task in slowly)
    answered.set()
    assert {type(end) for end in await asyncio.gather(*slowly, return_exceptions=True)} == {Failure}


async def test_a_caller_that_leaves_leaves_no_answer_for_the_next(templates, tmp_path):
    template = brought(tmp_path, PLAIN)
    await templates.render(template, TOKENS, TURNS)
    leaving = asyncio.ensure_future(templates.render(template, TOKENS, [Turn("user", "secret")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert "secret" not in await templates.render(template, TOKENS, [Turn("user", "mine")])


async def test_a_child_that_somebody_ends_condemns_no_template(templates, tmp_path):
    template = brought(tmp_path, PLAIN)
    await templates.render(template, TOKENS, TURNS)
    os.kill(pids(templates)[0], signal.SIGKILL)
    with pytest.raises(Failure) as caught:
        await templates.render(template, TOKENS, TURNS)
    assert caught.value.reason is Reason.NOT_READY
    assert await templates.render(template, TOKENS, TURNS)


@pytest.mark.parametrize(
    "attempt", ["open('/etc/passwd')", "open('/tmp/x', 'w')", "__import__('socket').socket()", "bytearray(1 << 30)"]
)
def test_behind_the_sandbox_the_process_itself_can_do_nothing(attempt):
    program = f"import runpy, socket; runpy.run_path({str(CHILD)!r})['limit_this_process'](); {attempt}"
    ended = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Too many open files" in ended.stderr or "MemoryError" in ended.stderr


def pids(templates):
    return [renderer._child.pid for renderer in templates._renderers.values()]


async def test_conversations_cross_to_the_child_whole(templates, tmp_path):
    """Characters that could end a line, a string or a message on the way: each is returned unchanged."""
    odd = ["\u2028", "\n", "\r\n", "\0", "\x1c", "\x85", '"', "\\", "\ud7ff", "\U0010ffff"]
    template = brought(tmp_path, "{% for m in messages %}{{ m.content | length }}:{{ m.content }};{% endfor %}")
    text = await templates.render(template, {}, [Turn("user", one) for one in odd])
    assert text == "".join(f"{len(one)}:{one};" for one in odd)


async def test_a_base_without_a_template_says_so(tmp_path):
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((resolve(DEFAULT_BASE).path / name).read_bytes())
    bare = BaseTokenizer(tmp_path)
    assert bare.template == ""
    with pytest.raises(Unrenderable, match="none"):
        bare.chat(TURNS)
    assert bare.text("One two")


async def test_a_template_that_is_no_text_is_refused_for_good(templates, tmp_path):
    path = tmp_path / "odd.jinja"
    path.write_bytes(b"\xff\xfe{{ messages }}")
    template = BroughtTemplate("t", "sha256:odd", lambda: path.read_text("utf-8"))
    with pytest.raises(Failure) as caught:
        await templates.render(template, TOKENS, TURNS[:1])
    assert caught.value.reason is Reason.TEMPLATE_UNRENDERABLE
    assert "UTF-8" in caught.value.variables["problem"]
