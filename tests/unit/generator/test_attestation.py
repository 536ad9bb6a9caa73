"""What the worker records, what the frontend accepts, and the pin on vLLM's version."""

import json
from types import SimpleNamespace

import pytest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.parallel_sampling import ParentRequest

from services.chassis.errors import Failure, Reason
from services.generator import plugin
from services.generator.attestation import attested
from services.generator.engine import Attestation
from services.generator.plugin import attest, finite, frontend
from services.generator.plugin.attest import extend
from services.generator.plugin.identity import Identity, IdentityMismatch
from services.generator.plugin.slots import _activating, _clearing, _deactivating, occupant

VERSION, OTHER, BASE = "sha256:aa", "sha256:bb", "sha256:base"


def test_steps_that_agree_add_up():
    record = extend(extend(None, 2, VERSION, "", BASE), 2, VERSION, "", BASE)
    assert record == (2, VERSION, 2, "", BASE)


@pytest.mark.parametrize(("slot", "version"), [(1, VERSION), (2, OTHER), (-1, "")])
def test_a_request_that_changes_its_slot_or_its_weights_is_violated_for_good(slot, version):
    record = extend(extend(None, 2, VERSION, "", BASE), slot, version, "", BASE)
    assert record[3]
    assert extend(record, 2, VERSION, "", BASE)[3] == record[3]


def test_an_answer_is_accepted_when_the_slot_held_the_version_asked_for():
    told = Attestation(0, VERSION, 5, "", BASE)
    assert attested(told, wanted=VERSION, base_digest=BASE) is told


def test_a_base_answer_is_accepted_only_from_no_slot():
    assert attested(Attestation(-1, "", 5, "", BASE), wanted="", base_digest=BASE).slot == -1


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (None, VERSION),
        (None, ""),
        (Attestation(0, OTHER, 1, "", BASE), VERSION),
        (Attestation(-1, "", 1, "", BASE), VERSION),
        (Attestation(0, VERSION, 1, "", BASE), ""),
        (Attestation(0, "", 1, "", BASE), ""),
        (Attestation(0, VERSION, 2, "slot 0 became 1", BASE), VERSION),
        (Attestation(-1, "", 2, "slots -1 and 3 in one step", BASE), ""),
        (Attestation(-1, "", 1, "", OTHER), ""),
        (Attestation(0, VERSION, 1, "", ""), VERSION),
    ],
)
def test_anything_else_is_served_to_nobody(told, wanted):
    with pytest.raises(Failure) as caught:
        attested(told, wanted=wanted, base_digest=BASE)
    assert caught.value.reason is Reason.VERSION_MISMATCH


def test_an_identity_is_proven_by_the_weights_beside_it(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    digest = "sha256:bd8d56e4db5f1fb70f14b44e54dd9db1a92d9ff6f7d7d3c6c0f8d3b5c6d8f9a0"
    (tmp_path / "identity.json").write_text(Identity(VERSION, digest, 8).text())
    with pytest.raises(IdentityMismatch):
        Identity.proven(tmp_path)


def test_an_identity_names_the_version_when_the_weights_are_whole(tmp_path):
    import hashlib

    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    digest = f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    (tmp_path / "identity.json").write_text(json.dumps({"version": VERSION, "weights_digest": digest, "rank": 8}))
    assert Identity.proven(tmp_path).version == VERSION


class Module:
    def __init__(self):
        self.reset = []

    def reset_lora(self, slot):
        self.reset.append(slot)


class Manager:
    """The parts of vLLM's manager that the plugin touches."""

    def __init__(self):
        self.lora_slots = 2
        self.lora_index_to_id = [None, None]
        self.modules = {"a": Module(), "b": Module()}
        self._registered_adapters = {}

    def activate_adapter(self, lora_id):
        self.lora_index_to_id[self.lora_index_to_id.index(None)] = lora_id
        return True

    def _deactivate_adapter(self, lora_id):
        self.lora_index_to_id[self.lora_index_to_id.index(lora_id)] = None

    def remove_all_adapters(self):
        self.lora_index_to_id = [None, None]


class Weights:
    def __init__(self, version):
        self.trivium_version = version


def test_the_stamp_comes_and_goes_with_the_weights_and_a_freed_slot_is_zeroed():
    manager = Manager()
    manager._registered_adapters = {5: Weights(VERSION), 6: Weights(OTHER)}
    for adapter in (5, 6):
        _activating(Manager.activate_adapter)(manager, adapter)
    assert [occupant(manager, slot) for slot in (0, 1)] == [VERSION, OTHER]
    _deactivating(Manager._deactivate_adapter)(manager, 5)
    assert [occupant(manager, slot) for slot in (0, 1)] == ["", OTHER]
    assert [module.reset for module in manager.modules.values()] == [[0], [0]]
    _clearing(Manager.remove_all_adapters)(manager)
    assert occupant(manager, 1) == ""
    assert manager.modules["a"].reset == [0, 0, 1]


def test_weights_that_carry_no_stamp_leave_the_slot_unnamed():
    manager = Manager()
    manager._registered_adapters = {5: object()}
    _activating(Manager.activate_adapter)(manager, 5)
    assert occupant(manager, 0) == ""


def test_the_installed_vllm_is_the_one_the_plugin_was_written_for():
    assert plugin.installed_vllm_version() == plugin.VLLM_VERSION == "0.32.0"


class Interrupted(Manager):
    """Fails in the middle of a copy, as vLLM's does after it has reserved the slot."""

    def __init__(self):
        super().__init__()
        self._active_adapters = {}

    def activate_adapter(self, lora_id):
        self._active_adapters[lora_id] = None
        super().activate_adapter(lora_id)
        raise MemoryError

    _deactivate_adapter = _deactivating(Manager._deactivate_adapter)


def test_a_slot_whose_filling_was_interrupted_is_zeroed_and_free():
    manager = Interrupted()
    with pytest.raises(MemoryError):
        _activating(Interrupted.activate_adapter)(manager, 7)
    assert manager.lora_index_to_id == [None, None]
    assert manager._active_adapters == {}
    assert [module.reset for module in manager.modules.values()] == [[0], [0]]
    assert occupant(manager, 0) == ""


def test_another_vllm_is_refused_with_a_sentence(monkeypatch):
    monkeypatch.setattr(plugin, "installed_vllm_version", lambda: "0.33.0")
    with pytest.raises(plugin.VllmVersionMoved, match=r"0\.33\.0"):
        plugin.register()


def completion(index, text):
    return CompletionOutput(index, text, [1], None, None)


class OneAnswer:
    """As much of vLLM's state of a request as makes an output."""

    num_cached_tokens = 16

    def make(self, original, index, record, broken):
        told = ({attest.KEY: record} if record else {}) | ({finite.KEY: True} if broken else {})
        return frontend._telling(original)(self, "r", [completion(index, "a")], False, told)


def output(index, record, broken=False):
    def original(self, external_id, outputs, finished, kv):
        return RequestOutput(external_id, None, [], None, outputs, finished, kv_transfer_params=kv)

    return OneAnswer().make(original, index, record, broken)


def test_outputs_that_vllm_merges_keep_each_answers_own_and_latest_record():
    add = frontend._merging(RequestOutput.add)
    merged = output(0, (1, "v", 3, ""))
    for index, record in [(1, (2, "w", 3, "")), (0, (1, "v", 4, "slot 1 became 2")), (2, None)]:
        add(merged, output(index, record), aggregate=True)
    assert {item.index: frontend.told(item) for item in merged.outputs} == {
        0: ((1, "v", 4, "slot 1 became 2"), 16, True),
        1: ((2, "w", 3, ""), 16, True),
        2: (None, 16, True),
    }


def test_what_came_of_no_numbers_says_so_however_it_is_merged():
    add = frontend._merging(RequestOutput.add)
    merged = output(0, None, broken=True)
    for index, broken in [(1, False), (0, False), (2, True), (2, False)]:
        add(merged, output(index, None, broken=broken), aggregate=True)
    assert {item.index: frontend.told(item).finite for item in merged.outputs} == {0: False, 1: True, 2: False}


def test_vllms_own_children_of_a_request_draw_with_the_seed_and_their_number():
    request = SimpleNamespace(request_id="r", external_req_id="r", params=SamplingParams(n=3, temperature=1.0, seed=40))
    parent = ParentRequest(request)
    assert [parent.get_child_info(number)[1].seed for number in range(3)] == [40, 41, 42]
