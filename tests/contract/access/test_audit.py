"""The audit log over the wire: complete, whole, and for the tenant's owners alone."""

from trivium.access.v1 import access_pb2 as pb

from tests.stack import Stack, refused


def test_a_change_says_who_made_it_by_which_call_and_the_log_is_whole(stack: Stack):
    tenant = stack.tenant()
    admin, owner = stack.access_api(stack.key("admin")), stack.access_api(stack.tenant_key(tenant))
    made = owner.CreateKey(pb.CreateKeyRequest(roles=[pb.ROLE_MEMBER])).key.key
    owner.RevokeKey(pb.RevokeKeyRequest(key=made))
    me = owner.WhoAmI(pb.WhoAmIRequest()).principal
    events = owner.ListAuditEvents(pb.ListAuditEventsRequest(principal=me)).events
    assert [(event.action, event.method) for event in events] == [
        ("key.revoked", "/trivium.access.v1.AccessService/RevokeKey"),
        ("key.created", "/trivium.access.v1.AccessService/CreateKey"),
    ]
    verdict = owner.VerifyAudit(pb.VerifyAuditRequest())
    assert (verdict.intact, verdict.head_hash) == (True, events[0].hash)
    known = pb.VerifyAuditRequest(tenant=tenant, known_sequence=events[1].sequence, known_hash=events[1].hash)
    assert admin.VerifyAudit(known).intact
    known.known_hash = events[0].hash
    assert admin.VerifyAudit(known).broken_sequence == events[1].sequence


def test_another_tenants_log_and_a_missing_one_look_the_same(stack: Stack):
    owner, theirs = stack.access_api(stack.tenant_key(stack.tenant())), stack.tenant()
    for name in (theirs, "not-there"):
        with refused("TENANT_NOT_FOUND"):
            owner.VerifyAudit(pb.VerifyAuditRequest(tenant=name))
        with refused("TENANT_NOT_FOUND"):
            owner.ListAuditEvents(pb.ListAuditEventsRequest(tenant=name))
