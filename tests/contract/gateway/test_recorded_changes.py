"""What is changed through the gateway is in the audit log once, by the service that owns it and under who asked."""

from collections import Counter

from trivium.access.v1 import access_pb2
from trivium.gateway.v1 import vector_stores_pb2 as pb

from tests.stack import eventually


def test_a_store_made_and_deleted_at_the_gateway_is_told_once_by_its_owner_under_who_asked(front, visitor):
    file = visitor.file("# Fares\n\nA day ticket is 9 crowns.")
    request = pb.CreateVectorStoreRequest(files=[file], name="Ferry")
    store = visitor.stores.CreateVectorStore(request).vector_store.vector_store
    assert visitor.ask("DELETE", f"/files/{file}").json()["deleted"]
    visitor.stores.DeleteVectorStore(pb.DeleteVectorStoreRequest(vector_store=store))
    access = front.stack.access_api(visitor.key)

    def told():
        events = access.ListAuditEvents(access_pb2.ListAuditEventsRequest()).events
        events = [event for event in events if event.event_id]
        return events if {"file.deleted", "collection.deleted"} <= {event.action for event in events} else None

    events = eventually(told, "both services have told what they changed", 30)
    counted = Counter((event.action, event.resource) for event in events)
    assert counted["file.created", f"files/{file}"] == 1
    assert counted["file.deleted", f"files/{file}"] == 1
    assert counted["document.deleted", f"collections/{store}/documents/{file}"] == 1
    assert counted["collection.created", f"collections/{store}"] == 1
    assert counted["collection.deleted", f"collections/{store}"] == 1
    assert {event.principal for event in events} == {access.WhoAmI(access_pb2.WhoAmIRequest()).principal}
    assert {event.method.split(".")[1] for event in events} == {"files", "retriever"}
    # A document's name is told, and nothing of what it says.
    assert b"crowns" not in b"".join(event.SerializeToString() for event in events)
    assert access.VerifyAudit(access_pb2.VerifyAuditRequest()).intact
