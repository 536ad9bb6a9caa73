"""The generator's contract over the wire: answers, receipts, shapes, tenants, hot swap."""

import hashlib
import json
import struct

import pytest
from trivium.common.v1 import chat_pb2
from trivium.generator.v1 import generator_pb2
from trivium.registry.v1 import model_pb2, registry_pb2

from tests.adapters import Adapter, floats, safetensors
from tests.generating import marked_adapters, tenant_of
from tests.harness.wording import missing
from tests.stack import eventually, refused

QUESTION = "What is the capital of Japan?"


def conversation(text):
    message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)
    return generator_pb2.Conversation(messages=[message])


def test_the_base_answers_and_the_receipt_is_enough_to_compute_the_answer_again(served, marks):
    answer = marks.tenant.generator.answer(QUESTION, request_id="r-1", requested_model="base")
    assert answer.text == "The capital of Japan is Tokyo."
    receipt = answer.receipt
    assert (receipt.request_id, receipt.requested_model, receipt.resolved_model) == ("r-1", "base", "base")
    assert (receipt.version_digest, receipt.engine_slot) == ("", -1)
    assert receipt.base_digest == served.base.digest
    assert receipt.engine_build == "vllm 0.32.0+trivium"
    assert receipt.template_digest.startswith("sha256:")
    assert receipt.sampling.max_tokens == 12
    assert receipt.sampling.HasField("seed")
    assert answer.final.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert [timing.stage for timing in answer.final.timings] == ["load", "prompt", "queue", "prefill", "generate"]


def test_tokenize_counts_what_generate_uses(marks):
    api = marks.tenant.generator.api
    told = api.Tokenize(generator_pb2.TokenizeRequest(conversation=conversation(QUESTION)))
    answer = marks.tenant.generator.answer(QUESTION)
    packed = struct.pack(f"<{len(told.token_ids)}i", *told.token_ids)
    assert answer.receipt.prompt_tokens_digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert answer.final.usage.prompt_tokens == len(told.token_ids)
    assert told.context_tokens == 2048


def test_the_same_seed_gives_the_same_answer_and_the_server_names_the_one_it_drew(marks):
    hot = {"temperature": 1.5}
    first = marks.tenant.generator.answer("Tell me something.", sampling=hot)
    again = {**hot, "seed": first.receipt.sampling.seed}
    assert marks.tenant.generator.answer("Tell me something.", sampling=again).token_ids == first.token_ids


def test_a_stop_text_ends_the_answer_and_is_left_out(marks):
    answer = marks.tenant.generator.answer(QUESTION, sampling={"stop": ["Japan"]})
    assert answer.text == "The capital of "
    assert answer.final.finish_reason == chat_pb2.FINISH_REASON_STOP


def test_logprobs_name_the_chosen_token_and_the_alternatives(marks):
    answer = marks.tenant.generator.answer(QUESTION, sampling={"logprobs": 3})
    assert [told.token_id for told in answer.logprobs] == answer.token_ids
    assert all(len(told.top) == 3 and told.logprob <= 0 for told in answer.logprobs)


def test_no_request_makes_the_engine_stop_and_compile(served, marks):
    marks.tenant.generator.answer(QUESTION, sampling={"logprobs": 3})
    marks.tenant.generator.answer(QUESTION, sampling={"temperature": 1.0, "top_p": 0.9, "logprobs": 1})
    assert not list(served.compiled.rglob("*.cpp"))


SHAPES = {
    "choice": chat_pb2.StructuredOutput(choice=chat_pb2.Choices(values=["Paris", "Rome"])),
    "regex": chat_pb2.StructuredOutput(regex="[0-9]{4}"),
    "json_schema": chat_pb2.StructuredOutput(
        json_schema=json.dumps(
            {
                "type": "object",
                "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
                "required": ["n"],
                "additionalProperties": False,
            }
        )
    ),
}
FITS = {
    "choice": lambda text: text in ("Paris", "Rome"),
    "regex": lambda text: len(text) == 4 and text.isdigit(),
    "json_schema": lambda text: set(json.loads(text)) == {"n"},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("adapter", ["base", "marked"])
def test_an_answer_has_the_shape_that_was_asked_for_with_any_weights(marks, shape, adapter):
    version = "" if adapter == "base" else marks.versions[0]
    answer = marks.tenant.generator.answer(QUESTION, version, structured_output=SHAPES[shape], max_tokens=24)
    assert FITS[shape](answer.text)
    assert answer.receipt.version_digest == version


def test_a_shape_that_does_not_compile_is_refused_and_the_engine_lives_on(marks):
    broken = chat_pb2.StructuredOutput(json_schema="{not json")
    with refused("FIELD_INVALID"):
        marks.tenant.generator.answer(QUESTION, structured_output=broken)
    assert marks.tenant.generator.answer(QUESTION).text


def test_a_prompt_that_does_not_fit_is_refused_with_its_length(marks):
    with refused("PROMPT_TOO_LONG") as failures:
        marks.tenant.generator.answer("word " * 3000)
    assert int(failures[0].variables["tokens"]) > 2048


def test_text_and_token_ids_are_taken_as_they_are(marks):
    api = marks.tenant.generator.api
    told = api.Tokenize(generator_pb2.TokenizeRequest(text="One two three four"))
    sampling = chat_pb2.Sampling(max_tokens=4)
    by_text = list(api.Generate(generator_pb2.GenerateRequest(text="One two three four", sampling=sampling)))
    ids = generator_pb2.TokenIds(ids=told.token_ids)
    by_ids = list(api.Generate(generator_pb2.GenerateRequest(token_ids=ids, sampling=sampling)))
    digests = {parts[-1].final.receipt.prompt_tokens_digest for parts in (by_text, by_ids)}
    assert len(digests) == 1


def running(api):
    return api.ListEngines(generator_pb2.ListEnginesRequest()).engines[0].running


def test_a_cancelled_call_frees_its_place_in_the_engine(marks):
    call = marks.tenant.generator.start("Write a very long story.", marks.versions[0], max_tokens=1500)
    opening = next(call).opening.receipt
    assert (opening.version_digest, opening.usage.completion_tokens) == (marks.versions[0], 0)
    assert opening.usage.prompt_tokens > 0
    # What is not read at once comes together with what follows.
    assert 0 < len(next(call).delta.token_ids) < 1500
    assert running(marks.tenant.generator.api) == 1
    call.cancel()
    eventually(lambda: running(marks.tenant.generator.api) == 0, "the place is given back", 20)


def test_another_tenants_version_looks_like_a_missing_one_though_it_is_resident(served, marks):
    marks.tenant.generator.answer("Hello", marks.versions[0], max_tokens=2)
    stranger = tenant_of(served)
    for version in (marks.versions[0], f"sha256:{'0' * 64}"):
        with refused("VERSION_NOT_FOUND"):
            stranger.generator.answer("Hello", version)
        with refused("ADAPTER_NOT_RESIDENT"):
            stranger.generator.api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=version))
    assert not stranger.generator.api.ListAdapters(generator_pb2.ListAdaptersRequest()).adapters


def test_one_tenants_prefix_is_not_reused_for_another(served, marks):
    prompt = "The same long question again. " * 30
    first, second = marks.tenant.generator, tenant_of(served).generator
    first.answer(prompt, max_tokens=1)
    assert first.answer(prompt, max_tokens=1).final.usage.cached_prompt_tokens > 0
    assert second.answer(prompt, max_tokens=1).final.usage.cached_prompt_tokens == 0


def state(tenant, model):
    return tenant.registry.alias(model).state


def test_a_new_target_is_loaded_without_a_restart_and_then_serves(served):
    tenant = tenant_of(served)
    adapters = marked_adapters(served.base)
    before = tenant.generator.api.ListEngines(generator_pb2.ListEnginesRequest()).engines[0]
    for adapter in adapters[:2]:
        version = tenant.publish("swap", adapter, served.base)
        tenant.registry.point("swap", version)
        eventually(lambda: state(tenant, "swap") == model_pb2.ALIAS_STATE_SERVING, "the target serves", 60)
        resolved = tenant.registry.resolve("swap").version
        assert resolved == version
        answer = tenant.generator.answer("Hello", resolved)
        assert set(answer.token_ids) == {adapter.token_id}
    after = tenant.generator.api.ListEngines(generator_pb2.ListEnginesRequest()).engines[0]
    assert (after.start_time, after.restarts) == (before.start_time, before.restarts)


def test_a_target_that_cannot_be_served_says_why_and_the_old_version_stays(served):
    tenant = tenant_of(served)
    good = tenant.publish("fragile", marked_adapters(served.base)[0], served.base)
    tenant.registry.point("fragile", good)
    eventually(lambda: state(tenant, "fragile") == model_pb2.ALIAS_STATE_SERVING, "the first target serves", 60)
    wide = Adapter(rank=32, inputs=576, outputs=576).files()
    bad = tenant.registry.publish("fragile", wide, base_digest=served.base.digest).version
    tenant.registry.point("fragile", bad)
    eventually(lambda: state(tenant, "fragile") == model_pb2.ALIAS_STATE_FAILED, "the target fails", 60)
    alias = tenant.registry.alias("fragile")
    assert "rank 32" in alias.reason
    assert alias.serving_version == good
    assert tenant.generator.answer("Hello", tenant.registry.resolve("fragile").version).receipt.version_digest == good
    with refused("WEIGHTS_REFUSED"):
        tenant.generator.answer("Hello", bad)


def test_a_target_that_no_engine_loads_is_kept_fails_and_says_that_a_merge_helps(served):
    tenant = tenant_of(served)
    dora = Adapter(rank=4, inputs=576, outputs=576, config={"use_dora": True})
    magnitude = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    tensors = {**dora.tensors(), magnitude: ("F32", [576], floats([1.0] * 576))}
    files = {**dora.files(), "adapter_model.safetensors": safetensors(tensors)}
    version = tenant.registry.publish("dora", files, base_digest=served.base.digest)
    assert "it uses DoRA" in version.unservable_reason
    tenant.registry.point("dora", version.version)
    eventually(lambda: state(tenant, "dora") == model_pb2.ALIAS_STATE_FAILED, "the target fails", 60)
    assert not missing(tenant.registry.alias("dora").reason, "use_dora", "merge")
    with refused("WEIGHTS_REFUSED") as failures:
        tenant.generator.answer("Hello", version.version)
    assert "trivium models merge" in failures[0].message


def test_a_version_of_another_chat_template_is_refused(served, marks):
    files = Adapter(rank=4, inputs=576, outputs=576).files()
    fields = {"base_digest": served.base.digest, "template_digest": f"sha256:{'0' * 64}"}
    version = marks.tenant.registry.publish("strange", files, **fields).version
    with refused("TEMPLATE_MISMATCH"):
        marks.tenant.generator.answer("Hello", version)


def test_a_deleted_version_leaves_its_slot_and_the_disk(served):
    tenant = tenant_of(served)
    version = tenant.publish("short-lived", marked_adapters(served.base)[0], served.base)
    tenant.generator.answer("Hello", version, max_tokens=1)
    folder = served.generator.run_file.parents[1] / "generator" / "adapters" / version.partition(":")[2]
    assert folder.is_dir()
    tenant.registry.api.DeleteVersion(registry_pb2.DeleteVersionRequest(model="short-lived", version=version))
    eventually(lambda: not folder.exists(), "its files are gone", 60)
    listed = tenant.generator.api.ListAdapters(generator_pb2.ListAdaptersRequest()).adapters
    assert version not in {adapter.version for adapter in listed}


def test_weights_that_changed_on_disk_are_refused_and_the_engine_serves_on(served):
    tenant = tenant_of(served)
    version = tenant.publish("changed", marked_adapters(served.base)[0], served.base)
    tenant.generator.answer("Hello", version, max_tokens=1)
    tenant.generator.api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=version))
    folder = served.generator.run_file.parents[1] / "generator" / "adapters" / version.partition(":")[2]
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with refused("WEIGHTS_REFUSED") as failures:
        tenant.generator.answer("Hello", version, max_tokens=1)
    assert "differ from the digest" in failures[0].variables["problem"]
    # Whatever was wrong with the file, it is not the version's fault.
    eventually(lambda: tenant.generator.answer("Hello", version, max_tokens=1), "it is fetched anew", 20)
    assert tenant.generator.answer(QUESTION).text


def test_adapters_are_listed_pinned_watched_and_unloaded(marks):
    api, version = marks.tenant.generator.api, marks.versions[0]
    loaded = api.LoadAdapter(generator_pb2.LoadAdapterRequest(version=version)).adapter
    assert (loaded.tier, loaded.rank, loaded.tenant) == (generator_pb2.TIER_SLOT, 8, marks.tenant.name)
    assert api.PinAdapter(generator_pb2.PinAdapterRequest(version=version, pinned=True)).adapter.pinned
    watch = api.WatchAdapters(generator_pb2.WatchAdaptersRequest())
    seen = []
    for message in watch:
        if message.caught_up:
            break
        seen.append(message.adapter.version)
    assert version in seen
    api.PinAdapter(generator_pb2.PinAdapterRequest(version=version, pinned=False))
    api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=version))
    departed = next(message for message in watch if message.adapter.tier == generator_pb2.TIER_REMOTE)
    assert departed.adapter.version == version
    watch.cancel()
    listed = api.ListAdapters(generator_pb2.ListAdaptersRequest()).adapters
    assert {adapter.version: adapter.tier for adapter in listed}[version] == generator_pb2.TIER_FILE


def test_an_interrupted_download_resumes_where_it_stopped(served, marks):
    tenant = tenant_of(served)
    version = tenant.publish("resumed", marks.adapters[1], served.base)
    request = registry_pb2.GetVersionRequest(version=version)
    files = {file.filename: file for file in tenant.registry.api.GetVersion(request).version.files}
    weights = (marks.adapters[1].folder / "adapter_model.safetensors").read_bytes()
    folder = served.generator.run_file.parents[1] / "generator" / "adapters" / f"{version.partition(':')[2]}.incoming"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors.partial").write_bytes(weights[:700_000])
    assert files["adapter_model.safetensors"].size_bytes == len(weights)
    answer = tenant.generator.answer("Hello", version)
    assert set(answer.token_ids) == {marks.adapters[1].token_id}
