"""What auto may choose from: described models that serve text, by an etag that changes with any of it."""

from trivium.registry.v1 import registry_pb2 as pb

from tests.stack import Stack, User, refused


def _serving(stack: Stack, user: User, model: str) -> None:
    version = user.publish(model)
    stack.service().report("g1", user.tenant, version.version, "READY")
    user.point(model, version.version)


def _describe(user: User, model: str, description: str = "", examples: tuple[str, ...] = ()) -> None:
    asked = pb.UpdateModelRequest(model=model, description=description, examples=examples, replace_examples=True)
    user.api.UpdateModel(asked)


def test_a_model_is_listed_once_it_serves_and_says_what_it_is_for(stack: Stack, user: User) -> None:
    _serving(stack, user, "fares")
    user.publish("idle")
    _describe(user, "idle", "Serves nothing yet.")
    assert not user.api.ListCandidates(pb.ListCandidatesRequest()).candidates
    _describe(user, "fares", "Ferry fares.", ("What is the fare?", "Is there a day ticket?"))
    (found,) = user.api.ListCandidates(pb.ListCandidatesRequest()).candidates
    assert (found.model, found.description) == ("fares", "Ferry fares.")
    assert found.examples == ["What is the fare?", "Is there a day ticket?"]


def test_what_the_etag_names_is_not_sent_again_until_something_changes(stack: Stack, user: User) -> None:
    _serving(stack, user, "fares")
    _describe(user, "fares", "Ferry fares.")
    first = user.api.ListCandidates(pb.ListCandidatesRequest())
    again = user.api.ListCandidates(pb.ListCandidatesRequest(etag=first.etag))
    assert (again.unchanged, again.etag, list(again.candidates)) == (True, first.etag, [])
    _describe(user, "fares", "Ferry fares.", ("What is the fare?",))
    changed = user.api.ListCandidates(pb.ListCandidatesRequest(etag=first.etag))
    assert (changed.unchanged, len(changed.candidates)) == (False, 1)
    user.api.DeleteAlias(pb.DeleteAliasRequest(model="fares", alias="prod"))
    gone = user.api.ListCandidates(pb.ListCandidatesRequest(etag=changed.etag))
    assert (gone.unchanged, len(gone.candidates)) == (False, 0)


def test_candidates_are_listed_in_pages_of_one_etag(stack: Stack, user: User) -> None:
    for model in ("a", "b", "c"):
        _serving(stack, user, model)
        _describe(user, model, model)
    seen, token, etags = [], "", set()
    while True:
        page = user.api.ListCandidates(pb.ListCandidatesRequest(page_size=2, page_token=token))
        seen += [item.model for item in page.candidates]
        etags.add(page.etag)
        token = page.next_page_token
        if not token:
            break
    assert (seen, len(etags)) == (["a", "b", "c"], 1)


def test_a_name_tells_what_it_falls_back_to(stack: Stack, user: User) -> None:
    _serving(stack, user, "fares")
    user.publish("plain")
    with refused("MODEL_NOT_FOUND"):
        user.api.UpdateModel(pb.UpdateModelRequest(model="fares", fallback="nowhere"))
    with refused("FIELD_INVALID"):
        user.api.UpdateModel(pb.UpdateModelRequest(model="fares", fallback="fares@2"))
    for fallback in ("base", "plain", ""):
        user.api.UpdateModel(pb.UpdateModelRequest(model="fares", fallback=fallback))
        assert user.resolve("fares").fallback == fallback


def test_an_alias_that_serves_nothing_tells_what_its_model_falls_back_to(user: User) -> None:
    user.publish("fares")
    user.api.UpdateModel(pb.UpdateModelRequest(model="fares", fallback="base"))
    with refused("ALIAS_NOT_SERVING") as failures:
        user.resolve("fares")
    assert failures[0].variables["fallback"] == "base"


def test_another_tenants_models_are_no_candidates_and_change_no_etag(stack: Stack, user: User) -> None:
    other = stack.newcomer()
    before = other.api.ListCandidates(pb.ListCandidatesRequest())
    _serving(stack, user, "fares")
    _describe(user, "fares", "Ferry fares.", ("What is the fare?",))
    seen = user.api.ListCandidates(pb.ListCandidatesRequest())
    after = other.api.ListCandidates(pb.ListCandidatesRequest(etag=seen.etag))
    assert (list(after.candidates), after.etag) == ([], before.etag)
