"""Computing the nodes of trees, from the leaves up, those alone that are not kept already.

Invariants: a node that was computed is durable before the next ones are begun, so who is
killed or cancelled goes on where they were; what a node says follows from what is below it
and from its maker, so a tree that grew is the tree of a fresh build.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.retriever.index.index import Vector
from services.retriever.search.passages import Material, materials, vectors
from services.retriever.summaries import nodes
from services.retriever.summaries.extracting import Focus, chosen, quotations
from services.retriever.summaries.groves import Forest, Grove
from services.retriever.summaries.nodes import Made, Maker
from services.retriever.summaries.statements import Mode, Statement
from services.retriever.summaries.tree import Level, Node
from services.retriever.summaries.wording import Wording

# Statements of a node.
MOST_STATEMENTS = {Mode.EXTRACTIVE: 6, Mode.ABSTRACTIVE: 4}
# Nodes that are computed between two writes; where a generator takes seconds for each, every one is written.
_BATCH = {Mode.EXTRACTIVE: 32, Mode.ABSTRACTIVE: 1}

Statements = tuple[Statement, ...]


class Moved(Exception):
    """Documents changed while they were summarised: look again."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to compute: whose nodes, for what, how many statements each, and whether they are kept."""

    maker: Maker
    most: int
    focus: Focus | None = None
    keeps: bool = True


@dataclass(slots=True)
class Grown:
    """A tree with what its nodes say: ``said`` are those that were computed now, by key."""

    grove: Grove
    levels: tuple[Level, ...]
    missing: frozenset[bytes]
    said: dict[bytes, Statements] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """How many nodes it has."""
        return sum(len(level) for level in self.levels)


@dataclass(frozen=True, slots=True)
class Builder:
    """Computes.  ``blocking`` runs a function in a thread."""

    database: Database
    wording: Wording
    blocking: Callable[..., Awaitable[Any]]
    _turns: dict[tuple[int, Mode], asyncio.Lock] = field(default_factory=dict)

    async def grown(self, forest: Forest, order: Order) -> list[Grown]:
        """The wanted trees with all their nodes; who asks for the same at the same time finds them there.

        Raises Moved, and what the generator raises.
        """
        turn = self._turns.setdefault((forest.collection_number, order.maker.mode), asyncio.Lock())
        wanted = [grove for grove in forest.groves if grove.wanted]
        if not order.keeps:
            return [await self._tree(forest, grove, order) for grove in wanted]
        async with turn:
            trees = [await self._tree(forest, grove, order) for grove in wanted]
            if any(tree.missing for tree in trees):
                await self._prune(forest, order.maker)
        return trees

    async def read(self, tree: Grown, level: Level, order: Order) -> list[Statements]:
        """What the nodes of a level say.  Raises Moved where one was forgotten meanwhile."""
        return await self.database.read(lambda session: _said(session, tree, [it.digest for it in level], order))

    async def quoted(self, tree: Grown, order: Order) -> list[Statement]:
        """Every sentence below a tree, as a statement.  Raises Moved where a passage went meanwhile."""
        chunks = [leaf.chunk for leaf in tree.grove.leaves]
        held = await self.database.read(lambda session: materials(session, order.maker.tenant, chunks))
        if len(held) < len(chunks):
            raise Moved
        return [statement for chunk in chunks for statement in quotations(chunk, held[chunk].text)]

    async def _tree(self, forest: Forest, grove: Grove, order: Order) -> Grown:
        levels: tuple[Level, ...] = await self.blocking(grove.levels)
        keys = [order.maker.key(node.digest) for level in levels for node in level]
        known: set[bytes] = set()
        if order.focus is None:
            known = await self.database.read(lambda session: nodes.present(session, forest.tenant, keys))
        tree = Grown(grove, levels, frozenset(key for key in keys if key not in known))
        for level in levels:
            missing = [node for node in level if order.maker.key(node.digest) in tree.missing]
            for some in _batches(missing, _BATCH[order.maker.mode]):
                await self._compute(forest, tree, some, order)
        return tree

    async def _compute(self, forest: Forest, tree: Grown, some: Sequence[Node], order: Order) -> None:
        most = order.most * (2 if order.maker.mode is Mode.ABSTRACTIVE else 1)
        gathered = await self.database.read(lambda session: _gathered(session, forest, tree, some, order))
        picked: list[Statements] = await self.blocking(_picked, gathered, most, order.focus)
        if order.maker.mode is Mode.ABSTRACTIVE:
            picked = [await self.wording.worded(statements, order.most) for statements in picked]
        made = [
            Made(order.maker.key(node.digest), node.level, statements, _documents(tree.grove, node))
            for node, statements in zip(some, picked, strict=True)
        ]
        if order.keeps and not await self.database.write(lambda session: nodes.keep(session, order.maker, made)):
            raise Moved
        tree.said.update((node.key, node.statements) for node in made)

    async def _prune(self, forest: Forest, maker: Maker) -> None:
        def keys() -> set[bytes]:
            every = (node for grove in forest.groves for level in grove.levels() for node in level)
            return {maker.key(node.digest) for node in every}

        current: set[bytes] = await self.blocking(keys)
        await self.database.write(lambda session: nodes.prune(session, maker, current))


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What a node is computed from: its chunks' texts or its children's statements, and vectors of chunks."""

    texts: Mapping[int, Material]
    statements: Sequence[Statement]
    vectors: Mapping[int, Vector]


def _gathered(session: Session, forest: Forest, tree: Grown, some: Sequence[Node], order: Order) -> list[_Gathered]:
    """For each node.  Raises Moved where a chunk or a child went."""
    return [
        _of_leaves(session, forest, tree, node) if node.level == 1 else _of_nodes(session, forest, tree, node, order)
        for node in some
    ]


def _of_leaves(session: Session, forest: Forest, tree: Grown, node: Node) -> _Gathered:
    chunks = [leaf.chunk for leaf in tree.grove.leaves[node.first : node.last]]
    texts, near = materials(session, forest.tenant, chunks), vectors(session, forest.tenant, chunks)
    if len(texts) < len(chunks):
        raise Moved
    # In the order of the leaves.
    return _Gathered({chunk: texts[chunk] for chunk in chunks}, (), near)


def _of_nodes(session: Session, forest: Forest, tree: Grown, node: Node, order: Order) -> _Gathered:
    statements = [it for said in _said(session, tree, node.children, order) for it in said]
    chunks = list(dict.fromkeys(it.quotes[0].chunk for it in statements))
    return _Gathered({}, statements, vectors(session, forest.tenant, chunks))


def _said(session: Session, tree: Grown, digests: Sequence[bytes], order: Order) -> list[Statements]:
    keys = [order.maker.key(digest) for digest in digests]
    kept = nodes.read(session, order.maker.tenant, [key for key in keys if key not in tree.said])
    found = [tree.said.get(key, kept.get(key)) for key in keys]
    if any(it is None for it in found):
        raise Moved
    return [it for it in found if it is not None]


def _picked(gathered: Sequence[_Gathered], most: int, focus: Focus | None) -> list[Statements]:
    return [_chosen(it, most, focus) for it in gathered]


def _chosen(given: _Gathered, most: int, focus: Focus | None) -> Statements:
    own = (it for chunk, material in given.texts.items() for it in quotations(chunk, material.text))
    return chosen([*own, *given.statements], given.vectors, most, focus)


def _documents(grove: Grove, node: Node) -> frozenset[int]:
    return frozenset(leaf.document_number for leaf in grove.leaves[node.first : node.last])


def _batches(values: Sequence[Node], most: int) -> Iterator[Sequence[Node]]:
    for first in range(0, len(values), most):
        yield values[first : first + most]
