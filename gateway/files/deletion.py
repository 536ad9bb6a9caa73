"""A file's end, as OpenAI has it: with the file go the documents that were made of it, in every vector store.

Invariant: a file goes after its documents.  A deletion that breaks off leaves a file that can be deleted again, and
never a document that nothing names.  Everything is done with the caller's own rights and in the caller's tenant: a file
that is a document which the caller may not read stays, with all of its documents.
"""

from gateway.files.nouns import Holders
from gateway.files.peers import Files, Stores
from services.chassis.errors import Failure, Reason

_GONE = {Reason.COLLECTION_NOT_FOUND, Reason.DOCUMENT_NOT_FOUND}


class Deletion:
    """Deletes files of the caller's tenant."""

    def __init__(self, files: Files, stores: Stores) -> None:
        self._files = files
        self._stores = stores

    async def delete(self, file: str) -> None:
        """Delete the file and its documents; one that never was in a vector store without asking the retriever.

        Raises FILE_NOT_FOUND, and FILE_RESTRICTED, PEER_UNAVAILABLE, ROLE_MISSING or SCOPE_MISSING before anything is
        deleted.
        """
        if await self._files.attached(file):
            held = await self._stores.holders(file)
            if held.hidden:
                raise Failure(Reason.FILE_RESTRICTED, name=file)
            await self._detach(held, file)
        if await self._files.delete(file):
            # Somebody may have put it into a store since we looked; from now on nobody can (``vector_stores.filing``).
            # What is put as a file is for everybody who may read the store.
            await self._detach(await self._stores.holders(file), file)

    async def _detach(self, held: Holders, file: str) -> None:
        for store in held.stores:
            await self._take_out(store, file)

    async def _take_out(self, store: str, file: str) -> None:
        try:
            await self._stores.remove_document(store, file)
        except Failure as failure:
            # Somebody else was faster.
            if failure.reason not in _GONE:
                raise
