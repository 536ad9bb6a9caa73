"""A collection's version where no wire can time it: a search that a change overtakes; and how collections came by theirs."""

from dataclasses import dataclass, field, replace
from typing import Any

from services.retriever.collection import Change
from services.retriever.documents.readers import SERVICE
from services.retriever.search.looking import Looking
from services.retriever.search.question import Fusion, Mode, Question
from services.retriever.search.settings import SearchSettings, Stated
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.hashing import HashedEmbeddings
from tests.unit.retriever.test_expansion import searching
from tests.unit.retriever.writing import Scribe

ASKED = Question(("rules",), ("herring",), 5, Mode.HYBRID, Fusion.SCORE, 0.55, {}, (), SERVICE)


@dataclass(frozen=True, slots=True)
class Overtaken(Looking):
    """Looks; after the first look somebody changes how the collection is searched."""

    collections: Any = None
    looks: list[str] = field(default_factory=list)

    async def lists(self, tenant, numbers, sought, watch):
        found = await super(Overtaken, self).lists(tenant, numbers, sought, watch)
        self.looks.append(sought.question.mode)
        if len(self.looks) == 1:
            await self.collections.update(tenant, "rules", Change(settings=SearchSettings(mode=Mode.SPARSE)))
        return found


async def test_a_search_that_a_change_of_settings_overtakes_is_as_the_version_that_it_names_says(tmp_path):
    async with opened(tmp_path, HashedEmbeddings()) as house:
        await house.create()
        await house.ingested("a.txt", "Smoked herring is served with mustard.")
        plain = searching(house, Scribe())
        own = {name: getattr(plain.looking, name) for name in Looking.__slots__}
        looking = Overtaken(**own, collections=house.collections)
        found = await replace(plain, looking=looking).search("ada", ASKED, Stated())
        assert looking.looks == [Mode.HYBRID, Mode.SPARSE]
        assert found.versions == {"rules": (await house.collections.get("ada", "rules")).version}
        assert [hit.ranked.dense for hit in found.hits] == [None]
