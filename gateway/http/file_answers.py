"""What the routes of files take and answer with: the document of the API is made of these."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.http.parsing import Strict

MOST = 10_000


class FileForm(Strict):
    """The form of an upload: one file and what it is for."""

    file: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    purpose: Literal["fine-tune", "batch", "assistants", "user_data", "evals"]
    anchor: Literal["created_at"] = Field("created_at", alias="expires_after[anchor]")
    seconds: int = Field(0, alias="expires_after[seconds]")


class FilesQuery(Strict):
    """Which files, and how many."""

    purpose: str = ""
    limit: int = Field(MOST, ge=1, le=MOST)
    order: Literal["asc", "desc"] = "desc"
    after: str = ""


class FileShown(Strict):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: None
    expires_at: int = 0


class FilesShown(Strict):
    """A page of files."""

    object: Literal["list"]
    data: list[FileShown]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(Strict):
    """A file that is gone."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]
