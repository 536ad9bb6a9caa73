"""A model name means one version, and an unknown one tells its neighbours."""

from trivium.registry.v1 import registry_pb2 as pb

from tests.stack import Stack, User, refused


def test_the_base_needs_no_model(user: User):
    assert user.resolve("base") == pb.ResolveModelResponse(is_base=True, resolved_name="base")
    named = user.resolve("base:smollm2")
    assert (named.is_base, named.base, named.resolved_name) == (True, "smollm2", "base:smollm2")


def test_every_way_to_name_a_version_leads_to_it(stack: Stack, user: User):
    version = user.publish("fares")
    stack.service().report("g1", user.tenant, version.version, "READY")
    user.point("fares", version.version)
    user.point("fares", version.version, alias="spare")
    bare = version.version.removeprefix("sha256:")
    for name, alias in (
        ("fares", "prod"),
        ("fares@prod", "prod"),
        ("fares@spare", "spare"),
        ("fares@1", ""),
        (f"fares@{bare[:10]}", ""),
        (f"fares@{version.version}", ""),
    ):
        found = user.resolve(name)
        assert (found.version, found.number, found.alias) == (version.version, 1, alias), name
        assert found.resolved_name == f"fares@{version.version}"
        assert (found.kind, found.base_digest) == (version.kind, version.base_digest)


def test_an_unknown_name_is_answered_with_the_nearest(user: User):
    user.publish("ferry-fares")
    with refused("MODEL_NOT_FOUND") as failures:
        user.resolve("fery-fares")
    assert failures[0].variables["nearest"] == "ferry-fares"
    with refused("MODEL_NOT_FOUND") as failures:
        user.resolve("bsae")
    assert failures[0].variables["nearest"] == "base"
    with refused("MODEL_NOT_FOUND") as failures:
        user.resolve("xyz")
    assert failures[0].variables["nearest"] == "none"
    for name in ("ferry-fares@7", "ferry-fares@stage", "@", "ferry-fares@", "ferry fares", "base:"):
        with refused("MODEL_NOT_FOUND"):
            user.resolve(name)


def test_a_model_without_its_default_alias_says_what_to_do(user: User):
    user.publish("fares")
    with refused("ALIAS_NOT_SERVING") as failures:
        user.resolve("fares")
    assert "fares@NUMBER" in failures[0].message


def test_auto_is_the_gateways_business(user: User):
    with refused("FIELD_INVALID"):
        user.resolve("auto")


def test_a_version_tells_the_shape_of_the_prompts_that_it_was_trained_on(user: User):
    user.publish("fares")
    user.publish("desk", lineage={"config": {"prompt_format": "documents-1"}})
    user.publish("odd", lineage={"config": {"prompt_format": ["no text"]}})
    formats = [user.resolve(f"{model}@1").prompt_format for model in ("fares", "desk", "odd")]
    assert formats == ["", "documents-1", ""]
