"""Filters in SQL decide as a plain reading of their definition does, on both databases."""

import asyncio
import itertools
import operator
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import and_, select, true

from services.chassis.database import open_database
from services.chassis.errors import Failure, Reason
from services.retriever.documents import attributes, storing
from services.retriever.documents.attributes import Moment
from services.retriever.documents.media import Source
from services.retriever.documents.readers import SERVICE
from services.retriever.documents.storing import Put
from services.retriever.search import filters
from services.retriever.search.filtering import passing, require_fitting
from services.retriever.search.filters import AllOf, AnyOf, Condition, Negated, Operator
from services.retriever.store import CollectionRow, DocumentRow
from services.retriever.text import texts
from tests.harness.plugin_sampling import is_whole
from tests.harness.wording import missing

TEXTS = ["", "a", "A", "ab", "Äb", "äB", "straße", "STRASSE", "10%", "a_b", "日本", "b"]
NUMBERS = [-1.5, 0.0, 1.0, 2.0, 2.5, 1e300]
MOMENTS = [
    Moment(micros) for micros in (-1, 0, 1_700_000_000_000_000, 1_700_000_000_000_001, 9_000_000_000_000_000_001)
]
LISTS = [(), ("a",), ("a", "b"), ("B", "ab"), ("a", "a", "Äb")]
FIELDS = ["f", "g", "h"]
VALUES: dict[str, Any] = {"text": TEXTS, "number": NUMBERS, "flag": [True, False], "time": MOMENTS}


def documents(count):
    """Documents of every kind of value, some without a field, some with another type under the same name."""
    chance = random.Random(3)
    kinds: list[Any] = [*VALUES.values(), LISTS]
    return {
        f"d{number}": {name: chance.choice(chance.choice(kinds)) for name in FIELDS if chance.random() < 0.8}
        for number in range(count)
    }


STORED = documents(60)


def conditions():
    def of(operators, pools, least, most):
        return st.sampled_from(pools).flatmap(
            lambda pool: st.builds(
                Condition,
                st.sampled_from([*FIELDS, "nowhere"]),
                st.sampled_from(operators),
                st.lists(st.sampled_from(pool), min_size=least, max_size=most).map(tuple),
                st.booleans(),
            )
        )

    ordered = [TEXTS, NUMBERS, MOMENTS]
    every = [*ordered, VALUES["flag"]]
    return st.one_of(
        of([Operator.EQUAL, Operator.NOT_EQUAL], every, 1, 1),
        of([Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL], ordered, 1, 1),
        of([Operator.BETWEEN], ordered, 2, 2),
        of([Operator.IN, Operator.NOT_IN], every, 1, 4),
        of([Operator.CONTAINS_ANY, Operator.CONTAINS_ALL], [TEXTS], 1, 3),
        of([Operator.PREFIX, Operator.CONTAINS], [TEXTS], 1, 1),
        of([Operator.EXISTS], [TEXTS], 0, 0),
    )


def trees():
    def grown(inner):
        several = st.lists(inner, min_size=1, max_size=3).map(tuple)
        return st.one_of(st.builds(AllOf, several), st.builds(AnyOf, several), st.builds(Negated, inner))

    return st.recursive(conditions(), grown, max_leaves=8)


COMPARED = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}


def holds(tree, held):
    """The definition, in Python."""
    if isinstance(tree, AllOf):
        return all(holds(part, held) for part in tree.filters)
    if isinstance(tree, AnyOf):
        return any(holds(part, held) for part in tree.filters)
    if isinstance(tree, Negated):
        return not holds(tree.filter, held)
    if tree.field not in held:
        return False
    return condition_holds(tree, held[tree.field])


def condition_holds(condition, value):
    if condition.operator is Operator.EXISTS:
        return True

    def seen(it):
        return it.casefold() if condition.ignore_case and isinstance(it, str) else it

    wanted = [seen(it) for it in condition.values]
    if condition.operator in (Operator.CONTAINS_ANY, Operator.CONTAINS_ALL):
        if not isinstance(value, tuple):
            return False
        test = any if condition.operator is Operator.CONTAINS_ANY else all
        return test(it in [seen(text) for text in value] for it in wanted)
    if type(value) is not type(condition.values[0]):
        return False
    value = seen(value)
    if condition.operator in COMPARED:
        return COMPARED[condition.operator](value, wanted[0])
    return {
        Operator.BETWEEN: lambda: wanted[0] <= value < wanted[1],
        Operator.IN: lambda: value in wanted,
        Operator.NOT_IN: lambda: value not in wanted,
        Operator.PREFIX: lambda: value.startswith(wanted[0]),
        Operator.CONTAINS: lambda: wanted[0] in value,
    }[condition.operator]()


@pytest.fixture
def catalog(tmp_path, catalog_url):
    """A catalog that holds the documents; nothing is ingested, filters look at rows alone."""
    url = catalog_url or f"sqlite:///{tmp_path / 'catalog.db'}"
    with asyncio.Runner() as runner:
        opened = open_database(url, "services.retriever.migrations")
        database = runner.run(opened.__aenter__())
        database.write_now(fill)
        yield database
        runner.run(opened.__aexit__(None, None, None))


def fill(session):
    session.add(CollectionRow(tenant="ada", collection="c", created_at=0.0))
    session.flush()
    text = texts.read(Source("d.txt", "", b"words"), 100)
    for document, held in STORED.items():
        plain = {name: value for name, value in held.items() if isinstance(value, str)}
        typed = {name: value for name, value in held.items() if name not in plain}
        storing.store(session, "ada", Put("c", document, "", plain, typed, viewer=SERVICE), text, 0.0)


def found(database, tree):
    query = select(DocumentRow.document).where(passing(tree))
    return database.read_now(lambda session: set(session.scalars(query)))


def test_a_filter_passes_what_its_definition_passes_and_its_negation_all_others(catalog):
    @settings(max_examples=250 if is_whole() else 80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(tree=trees())
    def check(tree):
        expected = {document for document, held in STORED.items() if holds(tree, held)}
        assert found(catalog, tree) == expected
        assert found(catalog, Negated(tree)) == set(STORED) - expected

    check()


def test_the_documents_here_let_every_operator_both_pass_and_refuse():
    # Otherwise the test above would say little of it.
    texts_only = {Operator.CONTAINS, Operator.PREFIX, Operator.CONTAINS_ANY, Operator.CONTAINS_ALL}
    for name in Operator:
        count = {Operator.EXISTS: 0, Operator.BETWEEN: 2}.get(name, 1)
        pools: list[list[Any]] = [TEXTS] if name in texts_only else [TEXTS, NUMBERS]
        tried = [Condition("f", name, values) for pool in pools for values in itertools.combinations(pool, count)]
        answers = {holds(it, held) for it in tried for held in STORED.values()}
        assert answers == {True, False}, name


def refused(tree):
    with pytest.raises(Failure) as caught:
        filters.check(tree)
    assert caught.value.reason is Reason.FILTER_INVALID
    return caught.value.sentence


def test_a_filter_that_is_too_large_is_refused_with_its_bound():
    deep: filters.Filter = Condition("f", Operator.EXISTS)
    for _ in range(7):
        deep = Negated(deep)
    filters.check(deep)
    assert "9 levels deep, at most 8" in refused(Negated(deep))
    assert "65 conditions" in refused(AnyOf((Condition("f", Operator.EXISTS),) * 65))
    many = Condition("f", Operator.IN, tuple(map(str, range(501))))
    assert "1002 values" in refused(AllOf((many, many)))


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (Condition("price", Operator.LESS, (True,)), "LESS compares with number or text or time, not with flag"),
        (Condition("price", Operator.PREFIX, (1.0,)), "PREFIX compares with text, not with number"),
        (Condition("price", Operator.IN, ("a", 1.0)), "different types: number, text"),
        (Condition("price", Operator.BETWEEN, (1.0,)), "BETWEEN takes 2 values, and there are 1"),
        (Condition("price", Operator.EXISTS, (1.0,)), "EXISTS takes 0 values, and there are 1"),
        (Condition("price", Operator.IN, ()), "IN takes at least one value"),
        (Condition("price", Operator.EQUAL, (("a",),)), "not with list of texts. Name texts one by one"),
    ],
)
def test_a_condition_that_says_nothing_is_refused_by_field_and_remedy(condition, says):
    sentence = refused(condition)
    assert says in sentence
    assert "price" in sentence


def test_a_field_of_another_type_is_named_with_both_types(catalog):
    numbers = DocumentRow.document.in_([name for name, held in STORED.items() if type(held.get("f")) is float])
    lists = DocumentRow.document.in_([name for name, held in STORED.items() if isinstance(held.get("f"), tuple)])

    def mismatch(condition, visible):
        with pytest.raises(Failure) as caught:
            catalog.read_now(lambda session: require_fitting(session, condition, visible))
        assert caught.value.reason is Reason.FILTER_TYPE_MISMATCH
        return caught.value.variables

    told = mismatch(Condition("f", Operator.EQUAL, ("2",)), numbers)
    assert (told["name"], told["stored"], told["operator"], told["asked"]) == ("f", "number", "EQUAL", "text")
    assert not missing(told["remedy"], "number")
    assert not missing(mismatch(Condition("f", Operator.EQUAL, ("a",)), lists)["remedy"], "CONTAINS_ANY")
    assert not missing(mismatch(Condition("f", Operator.CONTAINS_ANY, ("a",)), numbers)["remedy"], "IN", "EQUAL")
    for fits, visible in (
        (Condition("f", Operator.EQUAL, ("a",)), true()),
        (Condition("f", Operator.EXISTS), numbers),
        (Condition("nowhere", Operator.EQUAL, ("a",)), true()),
        (Condition("f", Operator.EQUAL, ("a",)), and_(numbers, ~true())),
    ):
        catalog.read_now(lambda session, it=fits, where=visible: require_fitting(session, it, where))


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.one_of(
            st.text(),
            st.floats(allow_nan=False),
            st.booleans(),
            st.integers(-(2**62), 2**62).map(Moment),
            st.lists(st.text()).map(tuple),
        ),
    )
)
def test_values_come_back_as_they_were_given(values):
    back = attributes.decoded(attributes.encoded(values))
    assert back == values
    assert {name: type(value) for name, value in back.items()} == {name: type(value) for name, value in values.items()}


def test_what_no_database_keeps_and_what_is_said_twice_is_refused():
    for plain, typed, says in (
        ({"a": "x"}, {"a": 1.0}, "stands in metadata as well"),
        ({}, {"a": "x\0y"}, "NUL"),
        ({"a": "\0"}, {}, "NUL"),
        ({}, {"a": float("inf")}, "finite"),
    ):
        with pytest.raises(Failure) as caught:
            attributes.merged(plain, typed)
        assert caught.value.reason is Reason.FIELD_INVALID
        assert says in caught.value.sentence
