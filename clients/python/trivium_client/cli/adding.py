"""`trivium docs add`: files and folders into a collection, once or for as long as they change.

Invariant: what is refused is told by name at the end and ends nothing else; nothing is deleted that was not shown.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from trivium_client import InvalidRequestError, NotFoundError, Trivium, charsets
from trivium_client.cli.consent import Yes, require_consent, require_somebody
from trivium_client.cli.exits import Exit
from trivium_client.cli.printing import Json, as_json, bars, counted, show
from trivium_client.cli.values import value_of
from trivium_client.folder_files import Selection, below
from trivium_client.metadata import MetadataValue
from trivium_client.nouns import Document, FolderReport, RefusedFile

COLUMNS = ("document", "state", "chunks", "title", "update_time")
# Of files that are left out so many are named.
_MOST_LEFT_OUT = 5
# Of a deletion so many names are printed before it is asked about; `--json` has all.
_MOST_NAMED = 50

Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection.")]
Include = Annotated[
    list[str] | None, typer.Option(help="Only files whose path in the folder fits this glob; may be repeated.")
]
Exclude = Annotated[list[str] | None, typer.Option(help="No files whose path fits this glob; may be repeated.")]
Prefix = Annotated[str, typer.Option(help="What stands before the path in a document's id.")]
Prune = Annotated[bool, typer.Option("--prune", help="Delete documents of the folder whose files are gone.")]
Reader = Annotated[
    list[str] | None,
    typer.Option(help="Id that may read them; may be repeated. Without any, documents keep those that they have."),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=VALUE that searches filter by; may be repeated. Numbers, dates, true and false are taken as such, unless "
        "in quotes. Other names keep what the documents have."
    ),
]
Charset = Annotated[str, typer.Option(help="Of texts that are not UTF-8, such as latin-1.")]
Everybody = Annotated[bool, typer.Option("--everybody", help="Everybody of the tenant may read them again.")]
Watch = Annotated[bool, typer.Option("--watch", help="Go on after every change, until interrupted.")]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    collection: str
    prefix: str
    include: Sequence[str]
    exclude: Sequence[str]
    prune: bool
    json: bool
    # None leaves to each document those that it has.
    readers: Sequence[str] | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    charset: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """As the SDK takes it."""
        return {
            "collection": self.collection,
            "prefix": self.prefix,
            "include": self.include,
            "exclude": self.exclude,
            "readers": self.readers,
            "metadata": self.metadata,
            "charset": self.charset,
        }


def add(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Files, or folders with all that is in them.")],
    collection: Collection = "default",
    prefix: Prefix = "",
    include: Include = None,
    exclude: Exclude = None,
    prune: Prune = False,
    yes: Yes = False,
    watch: Watch = False,
    reader: Reader = None,
    everybody: Everybody = False,
    metadata: Metadata = None,
    charset: Charset = "",
    wait: Annotated[bool, typer.Option(help="Return when everything is searchable.")] = True,
    json_wanted: Json = False,
) -> None:
    """Add documents, or new versions of them; a new collection is created with its first document.

    A document's id is its path inside the folder. What the server holds already is not sent; what is refused is named
    at the end, the others are added all the same. Hidden files, and those that no ending marks as a document, are left
    out unless --include names them. Metadata and readers that a document has stay, unless you name others.

    Example: trivium docs add handbook/ -c handbook
    """
    if everybody and reader:
        raise typer.BadParameter("name readers, or say --everybody", param_hint="--reader")
    readers = () if everybody else reader
    named = dict(map(_named, metadata or ()))
    as_texts, prefix = _known(charset), prefix.strip("/")
    wish = Wish(collection, prefix, include or (), exclude or (), prune, json_wanted, readers, named, as_texts)
    _require_apart(paths, wish)
    if watch:
        if len(paths) != 1 or not paths[0].is_dir():
            raise typer.BadParameter("--watch follows one folder", param_hint="paths")
        if prune:
            require_consent(f"Delete documents of {paths[0]} whenever their files are gone?", "--prune", yes=yes)
        _follow(paths[0], wish)
        return
    if prune:
        # Before anything is stored: whether it works without a yes is not to depend on what is gone today.
        require_somebody("--prune", yes=yes)
    with Trivium() as client:
        report, gone = _brought(client, paths, wish, wait=wait or prune)
        pruned = _pruned(client, gone, wish, yes=yes) if prune else ()
        _finish(client, report, pruned, wish)


def _named(given: str) -> tuple[str, MetadataValue]:
    """One `--metadata`.  Raises typer.BadParameter."""
    name, equals, text = given.partition("=")
    if not equals or not name.strip():
        raise typer.BadParameter(f"{given!r} is not NAME=VALUE, as in --metadata year=2026", param_hint="--metadata")
    return name.strip(), value_of(text)


def _known(charset: str) -> str:
    """The one name of `--charset`.  Raises typer.BadParameter."""
    try:
        return charsets.known_as(charset)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--charset") from None


def _require_apart(paths: Sequence[Path], wish: Wish) -> None:
    """Raises typer.BadParameter for two files that would be one document: the second would take the first one's place."""
    selection = Selection(tuple(wish.include), tuple(wish.exclude))
    seen: dict[str, Path] = {}
    for path in paths if len(paths) > 1 else ():
        files = {it.relative: it.path for it in below(path, selection).files} if path.is_dir() else {path.name: path}
        for name, file in files.items():
            before = seen.setdefault(name, file)
            if before.resolve() != file.resolve():
                problem = f"{before} and {file} would both be the document {name}; add them apart, each with a --prefix"
                raise typer.BadParameter(problem, param_hint="paths")


def _brought(client: Trivium, paths: Sequence[Path], wish: Wish, *, wait: bool) -> tuple[FolderReport, tuple[str, ...]]:
    """Store everything, and wait for it; what came of it, and the documents whose files are gone."""
    with bars() as progress, _phases(progress) as told:
        reports = [
            client.docs.add_folder(path, **wish.options, progress=told) if path.is_dir() else _file(client, path, wish)
            for path in paths
        ]
        whole = _merged(reports)
        if not (whole.stored or whole.refused or whole.unchanged or whole.missing):
            raise typer.BadParameter("there is no document in it; --include names other files", param_hint="paths")
        if wait and whole.stored:
            _wait(client, wish.collection, progress)
    stored = {document.document for document in whole.stored}
    # What one folder lost another one may have brought.
    return whole, tuple(name for name in whole.missing if name not in stored)


def _file(client: Trivium, path: Path, wish: Wish) -> FolderReport:
    name = f"{wish.prefix}/{path.name}" if wish.prefix else path.name
    try:
        return FolderReport(stored=(_stored(client, path, name, wish),))
    except InvalidRequestError as error:
        return FolderReport(refused=(RefusedFile(str(path), name, error.message),))


def _stored(client: Trivium, file: Path, name: str, wish: Wish) -> Document:
    held = _held(client, name, wish.collection)
    readers = wish.readers if wish.readers is not None else held.readers if held else ()
    before = {**held.metadata, **held.typed_metadata} if held else {}
    metadata, charset = {**before, **wish.metadata}, wish.charset

    def stored() -> Document:
        return client.docs.add(
            file, collection=wish.collection, document=name, readers=readers, metadata=metadata, charset=charset
        )

    try:
        return stored()
    except NotFoundError as error:
        if error.reason != "COLLECTION_NOT_FOUND":
            raise
    client.collections.create(wish.collection, exist_ok=True)
    return stored()


def _held(client: Trivium, name: str, collection: str) -> Document | None:
    """The document that there is: a new version opens it to nobody else, and says of it what the one before said."""
    try:
        return client.docs.get(name, collection=collection)
    except NotFoundError:
        return None


def _merged(reports: Iterable[FolderReport]) -> FolderReport:
    reports = list(reports)
    return FolderReport(
        stored=tuple(item for report in reports for item in report.stored),
        unchanged=sum(report.unchanged for report in reports),
        refused=tuple(item for report in reports for item in report.refused),
        missing=tuple(item for report in reports for item in report.missing),
        left_out=tuple(item for report in reports for item in report.left_out),
    )


def _pruned(client: Trivium, gone: Sequence[str], wish: Wish, *, yes: bool) -> Sequence[str]:
    """Delete what is gone, once it was shown and nobody minds."""
    if not gone:
        return ()
    typer.echo(f"{counted(len(gone), 'document')} of the folder without a file:", err=True)
    for name in gone[:_MOST_NAMED]:
        typer.echo(f"  {name}", err=True)
    if len(gone) > _MOST_NAMED:
        typer.echo(f"  and {len(gone) - _MOST_NAMED} more", err=True)
    if not yes and not typer.confirm("Delete them?", err=True):
        return ()
    with bars() as progress:
        for name in progress.track(gone, description="deleting"):
            client.docs.delete(name, collection=wish.collection)
    return gone


def _finish(client: Trivium, report: FolderReport, pruned: Sequence[str], wish: Wish) -> None:
    """The documents as they are now, what was refused, the totals, and the exit status."""
    names = {document.document for document in report.stored}
    now = [document for document in client.docs.list(wish.collection) if document.document in names] if names else []
    nothing = "Nothing has changed." if report.unchanged and not pruned else "Nothing was added."
    show(now, COLUMNS, json_wanted=wish.json, empty=nothing)
    failed = [document for document in now if document.state == "failed"]
    _tell_left_out(report.left_out)
    for file in report.refused:
        typer.echo(f"{file.path}: {file.reason}", err=True)
    for document in failed:
        typer.echo(f"{document.document}: {document.reason}", err=True)
    if report.unchanged or pruned or report.refused or failed:
        refused = len(report.refused) + len(failed)
        typer.echo(_totals(len(names) - len(failed), report.unchanged, refused, len(pruned)), err=True)
    if report.refused or failed:
        raise typer.Exit(Exit.REFUSED)


def _tell_left_out(files: Sequence[str]) -> None:
    if files:
        more = ", ..." if len(files) > _MOST_LEFT_OUT else ""
        named = ", ".join(files[:_MOST_LEFT_OUT])
        what = (
            "files that no ending marks as documents" if len(files) > 1 else "file that no ending marks as a document"
        )
        typer.echo(f"Left out {len(files)} {what} (--include names them): {named}{more}", err=True)


def _totals(stored: int, unchanged: int, refused: int, deleted: int) -> str:
    return f"{stored} stored, {unchanged} unchanged, {refused} refused, {deleted} deleted"


def _follow(folder: Path, wish: Wish) -> None:
    """Print what each pass came to until somebody interrupts it, and the totals then."""
    stored = refused = deleted = 0
    with Trivium() as client:
        try:
            for report in client.docs.follow_folder(folder, **wish.options, prune=wish.prune):
                stored, deleted = stored + len(report.stored), deleted + len(report.pruned)
                refused += len(report.refused)
                _tell(report, json_wanted=wish.json)
        except KeyboardInterrupt:
            # Nobody asked for it to end otherwise.
            typer.echo(f"No longer followed: {_totals(stored, 0, refused, deleted)}", err=True)
            raise typer.Exit(Exit.INTERRUPTED) from None


def _tell(report: FolderReport, *, json_wanted: bool) -> None:
    if json_wanted:
        typer.echo(as_json(report))
        return
    if report.waits:
        typer.echo(f"Waiting: {report.waits}", err=True)
        return
    for document in report.stored:
        typer.echo(f"stored {document.document}")
    for name in report.pruned:
        typer.echo(f"deleted {name}")
    for file in report.refused:
        typer.echo(f"{file.path}: {file.reason}", err=True)
    if report.unchanged and report.silent:
        typer.echo(f"Following; {counted(report.unchanged, 'file')} unchanged.")


@contextmanager
def _phases(progress: Progress) -> Iterator[Any]:
    """A bar for each phase, made when it begins."""
    bar: dict[str, Any] = {}

    def told(phase: str, done: int, whole: int) -> None:
        if phase not in bar:
            bar[phase] = progress.add_task(phase, total=whole)
        progress.update(bar[phase], completed=done, total=whole)

    yield told


def _wait(client: Trivium, collection: str, progress: Progress) -> None:
    task = progress.add_task("ingesting", total=None)
    most = 0
    for document, pending in client.docs.watch(collection):
        most = max(most, pending)
        # It may wait for what only somebody else brings back, as a model that was deleted.
        waits = document.reason and document.state in ("pending", "running")
        what = f"ingesting ({document.reason})" if waits else "ingesting"
        progress.update(task, description=what, total=most, completed=most - pending)
