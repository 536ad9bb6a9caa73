"""URLs against a real web server: what is fetched, what is not again, and what no page leads to."""

import uuid

from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.places_to_read import PAGE, add, counts, documents, read
from tests.stack import refused


def test_a_url_is_fetched_once_and_again_only_when_it_changed(keeper, site):
    path = f"/{uuid.uuid4().hex}.md"
    site.pages[path] = (PAGE, '"1"')
    source = read(keeper, site.url(path)).source
    assert (source.state, counts(source)) == (pb.SOURCE_STATE_READY, (1, 1, 0, 0, 0))
    document = keeper.settled(site.url(path))
    # Its server calls it plain text; its name says more.
    assert (document.title, document.media_type) == ("Storms", "text/markdown")
    assert "980" in keeper.search("when does the gate close")[0].text

    source = read(keeper, site.url(path)).source
    assert (counts(source), site.answered[-1], source.fetched_bytes) == ((1, 0, 1, 0, 0), 304, 0)
    site.pages[path] = (PAGE.replace("980", "975"), '"2"')
    assert counts(read(keeper, site.url(path)).source) == (1, 1, 0, 0, 0)
    assert keeper.settled(site.url(path)).chunks_embedded == 1
    # Somebody puts another text over it: what the page says is fetched again.
    keeper.add(site.url(path), "# Other\n")
    assert counts(read(keeper, site.url(path)).source) == (1, 1, 0, 0, 0)
    keeper.settled()
    assert "975" in keeper.text(site.url(path))


def test_a_page_that_is_gone_is_told_and_pruned_if_that_is_wanted(keeper, site):
    path = f"/{uuid.uuid4().hex}.md"
    site.pages[path] = (PAGE, "")
    read(keeper, site.url(path))
    site.pages[path] = ("", "")
    answer = read(keeper, site.url(path))
    assert answer.source.state == pb.SOURCE_STATE_FAILED
    assert [(item.uri, item.reason) for item in answer.failures] == [(site.url(path), "it answers 404")]
    assert documents(keeper) == {site.url(path)}
    assert counts(read(keeper, site.url(path), prune=True).source) == (0, 0, 0, 0, 1)
    assert documents(keeper) == set()


def test_what_is_allowed_is_judged_again_where_it_leads(keeper, site):
    with refused("SOURCE_NOT_ALLOWED"):
        add(keeper, f"http://127.0.0.1:{site.port + 1}/")
    with refused("SOURCE_NOT_ALLOWED") as failures:
        add(keeper, f"http://ada:secret@127.0.0.1:{site.port}/")
    assert "secret" not in failures[0].message
