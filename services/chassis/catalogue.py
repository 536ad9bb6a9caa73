"""Every way in which a call can fail, in one file that a reviewer reads in one sitting.

A reason is stable: clients switch on its name, so a released name is never
renamed or given another code.  A sentence says what happened and, where there
is something to do, what to do; ``{variables}`` are filled from the failure and
also travel as ErrorInfo metadata, so no client has to parse the sentence.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum, unique


class Code(IntEnum):
    """The numbers of google.rpc.Code that we answer with (no grpc import: the domain uses this)."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One failure: its code, its sentence, and the resource type it is about (ResourceInfo)."""

    code: Code
    sentence: str
    resource: str = ""


@unique
class Reason(Enum):
    """The catalogue.  Grouped by who can do something about it; keep each group sorted by name."""

    # Any RPC: the request itself
    BODY_NOT_DECODABLE = Entry(Code.INVALID_ARGUMENT, "The request does not decode as {type}.")
    CURSOR_EXPIRED = Entry(
        Code.OUT_OF_RANGE, "Sequence {sequence} is no longer kept; the oldest kept is {oldest}. Start again there."
    )
    ETAG_MISMATCH = Entry(
        Code.ABORTED, "{name} changed since it was read: its etag is {etag}. Read it again and retry."
    )
    FIELD_INVALID = Entry(Code.INVALID_ARGUMENT, "{field}: {problem}")
    NAME_INVALID = Entry(Code.INVALID_ARGUMENT, "{name} is not a name of the form {pattern}.")
    PAGE_TOKEN_INVALID = Entry(Code.INVALID_ARGUMENT, "The page token does not belong to this list. Start without one.")
    REQUEST_ID_INVALID = Entry(Code.INVALID_ARGUMENT, "request_id must be a UUID, got {length} characters.")
    REQUEST_ID_REUSED = Entry(
        Code.ALREADY_EXISTS, "request_id {request_id} was already used with another request. Use a new one."
    )
    REQUEST_INVALID = Entry(Code.INVALID_ARGUMENT, "The request is refused: {first}.{more}")
    REQUEST_STREAM_EMPTY = Entry(Code.INVALID_ARGUMENT, "The stream ended before its first message.")
    REQUEST_STREAM_IDLE = Entry(
        Code.DEADLINE_EXCEEDED,
        "Nothing came for {seconds} s of what was being sent, so it was given up. Send it again.",
    )
    BODY_LATE = Entry(Code.DEADLINE_EXCEEDED, "The body did not come within {seconds} s. Send it again, at once.")
    BODY_TOO_LARGE = Entry(Code.OUT_OF_RANGE, "The body is over {limit_bytes} bytes. Send less at once.")
    RESPONSE_TOO_LARGE = Entry(
        Code.OUT_OF_RANGE, "The response has {size_bytes} bytes, over {limit_bytes}. Ask for a smaller page."
    )

    # Any RPC: who asks
    CREDENTIAL_EXPIRED = Entry(Code.UNAUTHENTICATED, "The credential has expired. Obtain a new one.")
    CREDENTIAL_INVALID = Entry(
        Code.UNAUTHENTICATED,
        "The credential is not valid. Use a key of this deployment, or a token of an issuer that it trusts which is not over; "
        "the command line and the SDK take it from TRIVIUM_API_KEY.",
    )
    CREDENTIAL_MISSING = Entry(
        Code.UNAUTHENTICATED,
        "A credential is required: metadata 'authorization' with 'Bearer KEY'; the command line and the SDK take KEY from "
        "TRIVIUM_API_KEY.",
    )
    ROLE_MISSING = Entry(Code.PERMISSION_DENIED, "This needs one of the roles {required}.")
    SCOPE_MISSING = Entry(
        Code.PERMISSION_DENIED, "This credential is narrowed, and this needs one of the scopes {required}."
    )

    # Any RPC: time and load
    CALL_CANCELLED = Entry(Code.CANCELLED, "The call was cancelled.")
    DEADLINE_EXCEEDED = Entry(Code.DEADLINE_EXCEEDED, "The call did not finish within its deadline.")
    DRAINING = Entry(Code.UNAVAILABLE, "This server is shutting down. Retry on another.")
    NOT_READY = Entry(Code.UNAVAILABLE, "{service} is not ready: {why}. Retry shortly.")
    OVERLOADED = Entry(Code.UNAVAILABLE, "The server is at its limit of {limit} calls. Retry shortly.")
    TOO_BUSY_FOR_DEADLINE = Entry(
        Code.UNAVAILABLE,
        "An answer may take {expected} s now, and the caller waits for {left} s. Retry shortly, or wait for longer.",
    )
    PEER_UNAVAILABLE = Entry(
        Code.UNAVAILABLE, "The service {service} cannot be reached. Retry shortly; `trivium status` says what runs."
    )
    INSUFFICIENT_QUOTA = Entry(
        Code.RESOURCE_EXHAUSTED, "{whose} may use {limit} {what}, and that is used up. It begins anew in {seconds} s."
    )
    RATE_LIMIT_EXCEEDED = Entry(
        Code.RESOURCE_EXHAUSTED, "{whose} may use {limit} {what}, and that is used up. Retry in {seconds} s."
    )
    TENANT_CALLS_EXHAUSTED = Entry(
        Code.RESOURCE_EXHAUSTED, "The tenant has {limit} calls in flight, its limit. Retry when one has finished."
    )
    TENANT_STREAMS_EXHAUSTED = Entry(
        Code.RESOURCE_EXHAUSTED, "The tenant has {limit} streams open, its limit. Close one and retry."
    )

    # Any RPC: us
    INTERNAL = Entry(Code.INTERNAL, "Something went wrong on our side. Quote {correlation_id} when reporting it.")
    NOT_YET_AVAILABLE = Entry(Code.UNIMPLEMENTED, "Not available in this version: {what}.")

    # Uploads and downloads
    CHUNK_OFFSET_WRONG = Entry(
        Code.OUT_OF_RANGE,
        "A chunk came at offset {offset}, expected {expected}. Ask for the committed offset and resume.",
    )
    DIGEST_MISMATCH = Entry(
        Code.INVALID_ARGUMENT, "The bytes have digest {actual}, announced was {announced}. Nothing was kept."
    )
    DISK_FULL = Entry(Code.RESOURCE_EXHAUSTED, "No space is left on the disk that holds {what}.")
    OFFSET_BEYOND_END = Entry(Code.OUT_OF_RANGE, "Offset {offset} lies beyond the end, {size_bytes}.")
    SIZE_MISMATCH = Entry(Code.INVALID_ARGUMENT, "The bytes number {actual}, announced were {announced}.")
    UPLOAD_TOO_SLOW = Entry(
        Code.DEADLINE_EXCEEDED, "The upload fell under {floor_bytes} bytes/s. Resume it from the committed offset."
    )
    UPLOAD_UNFINISHED = Entry(
        Code.INVALID_ARGUMENT,
        "The upload ended after {size_bytes} bytes without its end, which says length and digest. Nothing was kept; send it "
        "again.",
    )

    # Access
    KEY_NOT_FOUND = Entry(Code.NOT_FOUND, "No key has the id {name}.", "trivium.access.v1.Key")
    KEY_ROLES_EXCEEDED = Entry(
        Code.PERMISSION_DENIED,
        "Nobody makes or ends a key that may do more than they may; {roles} goes beyond: ask an admin.",
    )
    KEY_SCOPES_EXCEEDED = Entry(
        Code.PERMISSION_DENIED,
        "Who is narrowed to some scopes makes keys that are narrowed to them too; {scopes} goes beyond.",
    )
    PROJECT_EXISTS = Entry(Code.ALREADY_EXISTS, "A project is already named {name}.", "trivium.access.v1.Project")
    PROJECT_IN_USE = Entry(
        Code.FAILED_PRECONDITION, "The project {name} has {keys} keys that work: revoke them first, then delete it."
    )
    PROJECT_NOT_FOUND = Entry(Code.NOT_FOUND, "No project is named {name}.", "trivium.access.v1.Project")
    RECEIPT_NOT_FOUND = Entry(Code.NOT_FOUND, "No receipt is kept for the request {name}.", "trivium.common.v1.Receipt")
    TENANT_DISABLED = Entry(Code.FAILED_PRECONDITION, "The tenant {name} is disabled.")
    TENANT_EXISTS = Entry(Code.ALREADY_EXISTS, "A tenant is already named {name}.", "trivium.access.v1.Tenant")
    TENANT_IN_USE = Entry(
        Code.FAILED_PRECONDITION,
        "In the tenant {name} are {keys} keys by which services work: give the services one of another tenant and revoke "
        "these, then disable it.",
    )
    TENANT_NOT_FOUND = Entry(Code.NOT_FOUND, "No tenant is named {name}.", "trivium.access.v1.Tenant")
    USER_EXISTS = Entry(Code.ALREADY_EXISTS, "Whom this issuer calls so is the user {name}.", "trivium.access.v1.User")
    USER_NOT_FOUND = Entry(Code.NOT_FOUND, "No user has the id {name}.", "trivium.access.v1.User")
    USER_ROLES_EXCEEDED = Entry(
        Code.PERMISSION_DENIED,
        "Nobody makes, changes or ends a user who may do more than they may, be it by a key; {roles} goes beyond: ask an "
        "admin.",
    )

    # Models and versions
    ADAPTER_NOT_RESIDENT = Entry(
        Code.NOT_FOUND, "The version {name} is not resident here.", "trivium.generator.v1.Adapter"
    )
    ALIAS_NOT_FOUND = Entry(Code.NOT_FOUND, "No alias is named {name}.", "trivium.registry.v1.Alias")
    ALIAS_NOT_SERVING = Entry(Code.FAILED_PRECONDITION, "{name} does not serve yet: {why}.")
    BASE_MISMATCH = Entry(
        Code.FAILED_PRECONDITION,
        "The adapter was trained for the base {base}; this deployment serves {known}. Train it for one of these.",
    )
    BLOB_MISSING = Entry(
        Code.FAILED_PRECONDITION, "The file {name} ({sha256}) was not uploaded. Upload it, then create the version."
    )
    BLOB_NOT_FOUND = Entry(Code.NOT_FOUND, "No file of yours has the digest {name}.", "trivium.registry.v1.Blob")
    BLOB_TOO_LARGE = Entry(
        Code.RESOURCE_EXHAUSTED, "The file {name} has {size_bytes} bytes, over the limit of {limit_bytes}."
    )
    CURSOR_UNKNOWN = Entry(
        Code.OUT_OF_RANGE, "Sequence {sequence} was never reached; the newest is {newest}. Start again from 0."
    )
    GATE_EXISTS = Entry(Code.ALREADY_EXISTS, "A gate is already named {name}.", "trivium.registry.v1.Gate")
    GATE_NOT_FOUND = Entry(Code.NOT_FOUND, "No gate is named {name}.", "trivium.registry.v1.Gate")
    GATE_NOT_PASSED = Entry(
        Code.FAILED_PRECONDITION,
        "{name} does not take {version}: {found}. Evaluate another version, or change the gate.",
    )
    GENERATOR_REPLACED = Entry(
        Code.FAILED_PRECONDITION, "{name} was started again since; what this life of it says no longer counts."
    )
    LIMIT_REACHED = Entry(
        Code.RESOURCE_EXHAUSTED, "{name} has {limit} {what}, the most there may be. Remove some, or use another."
    )
    MODEL_EXISTS = Entry(Code.ALREADY_EXISTS, "A model is already named {name}.", "trivium.registry.v1.Model")
    MODEL_IN_USE = Entry(Code.FAILED_PRECONDITION, "The model {name} is used by {user}. {remedy}.")
    MODEL_NOT_FOUND = Entry(
        Code.NOT_FOUND,
        "No model is named {name}. Names like it: {nearest}. `trivium models list` and GET /v1/models show all.",
        "trivium.registry.v1.Model",
    )
    MODEL_SOURCE_INVALID = Entry(
        Code.FAILED_PRECONDITION, "The model {uri} cannot be resolved: {problem}", "model source"
    )
    PARENT_DELETED = Entry(
        Code.FAILED_PRECONDITION, "{name} was made from {parent}, which is deleted too. Restore {parent} first."
    )
    SLOTS_PROTECTED = Entry(Code.RESOURCE_EXHAUSTED, "Of {slots} slots {limit}. End another protection first.")
    STAGED_BYTES_EXHAUSTED = Entry(
        Code.RESOURCE_EXHAUSTED,
        "The tenant's unfinished uploads hold {staged_bytes} bytes; {name} has {size_bytes}, and together they may be "
        "{limit_bytes}. Finish those uploads, wait until the registry removes what nobody goes on with (a day, unless set "
        "otherwise), or ask the operator to raise max_staged_bytes_per_tenant.",
    )
    TEMPLATE_MISMATCH = Entry(
        Code.FAILED_PRECONDITION,
        "The adapter was trained under the chat template {template} and does not bring it; this deployment serves {known}. "
        "Add it to the version as chat_template.jinja, or train under that one.",
    )
    TEMPLATE_UNRENDERABLE = Entry(
        Code.INVALID_ARGUMENT,
        "The model's chat template does not take this conversation: {problem}. Write it as the template wants it, or "
        "send text or token ids.",
    )
    TOOLS_UNSUPPORTED = Entry(
        Code.INVALID_ARGUMENT,
        "The model's chat template has no place for tools, or writes their calls in a form that is not known here. Ask "
        "without tools, or name a model whose template has them.",
    )
    UPLOAD_IN_PROGRESS = Entry(
        Code.ABORTED, "The same content is being uploaded, or an old copy removed, at this moment. Wait, or retry."
    )
    VERSION_AMBIGUOUS = Entry(Code.FAILED_PRECONDITION, "{name} fits several versions. Give more digits.")
    VERSION_HELD = Entry(
        Code.FAILED_PRECONDITION,
        "{name} is held ready by {holders}. Wait until it is unloaded there, or force the deletion: what runs finishes.",
    )
    VERSION_IN_USE = Entry(Code.FAILED_PRECONDITION, "The version {name} is used by {user}. {remedy}.")
    VERSION_NOT_FOUND = Entry(Code.NOT_FOUND, "No version is named {name}{fate}.", "trivium.registry.v1.Version")
    VERSION_PROTECTED = Entry(
        Code.FAILED_PRECONDITION,
        "The version {name} is protected, and stays loaded; end that first: `trivium models protect {model}@{name} --end`.",
    )
    WEIGHTS_REFUSED = Entry(Code.INVALID_ARGUMENT, "The files were refused: {problem}.")
    WORK_UNDER_WAY = Entry(
        Code.ABORTED, "{what} goes on: {progress}. Repeat the request with the same request_id to wait for it."
    )

    # Questions and answers
    ANSWER_NOT_FINITE = Entry(
        Code.FAILED_PRECONDITION,
        "The weights of {name} are too large: they compute no numbers, and nothing of that is served. Ask another version, "
        "or train it again with a lower learning rate.",
    )
    CONTENT_REFUSED = Entry(Code.PERMISSION_DENIED, "The content policy of this tenant refuses {what}: {why}")
    ENGINE_TOO_LARGE = Entry(
        Code.FAILED_PRECONDITION,
        "An engine for {name} takes about {needed_bytes} bytes; all engines of this generator may take {budget_bytes}. "
        "Raise TRIVIUM_GENERATOR_ENGINES_GIB, or serve it on a machine with more memory.",
    )
    PARAMETER_UNSUPPORTED = Entry(Code.INVALID_ARGUMENT, "The parameter {field} is not supported{why}.")
    POLICY_UNAVAILABLE = Entry(
        Code.UNAVAILABLE,
        "The content policy of this tenant cannot be asked now, and nothing passes without it. Retry shortly; an admin sets "
        "where it is: `trivium tenants policy show`.",
    )
    PROMPT_TOO_LONG = Entry(Code.INVALID_ARGUMENT, "The prompt has {tokens} tokens, over {limit}. {advice}.")
    QUESTION_EMPTY = Entry(Code.INVALID_ARGUMENT, "The question is empty. Ask something.")
    VERSION_MISMATCH = Entry(
        Code.INTERNAL,
        "The engine answered with {attested} over base {base}; the request was for {resolved}. Nothing is served.",
    )

    # Texts and vectors
    EMBEDDING_ENGINE_MISSING = Entry(
        Code.FAILED_PRECONDITION, "Embeddings are to be computed by {engine}, which is not to be had: {problem}."
    )
    EMBEDDING_MODEL_NOT_FOUND = Entry(
        Code.NOT_FOUND,
        "No embedding model or reranker is named {name}{fate}; this embedder serves {known}.",
        "trivium.embedder.v1.EmbeddingModel",
    )
    EMBEDDING_QUEUE_FULL = Entry(
        Code.UNAVAILABLE, "{waiting} tokens wait to be embedded, the limit is {limit}. Retry shortly."
    )
    TEXT_EMPTY = Entry(Code.INVALID_ARGUMENT, "Text {index} is empty, and nothing has no vector. Leave it out.")

    # Collections and documents
    COLLECTION_EXISTS = Entry(
        Code.ALREADY_EXISTS, "A collection is already named {name}.", "trivium.retriever.v1.Collection"
    )
    COLLECTION_EXPIRED = Entry(
        Code.FAILED_PRECONDITION,
        "The collection {name} expired: nobody used it for its time, and its documents are gone. Make another one.",
        "trivium.retriever.v1.Collection",
    )
    COLLECTION_NOT_FOUND = Entry(
        Code.NOT_FOUND,
        "No collection (to OpenAI's clients a vector store) is named {name}. Names like it: {nearest}. `trivium docs list` and "
        "GET /v1/vector_stores show all.",
        "trivium.retriever.v1.Collection",
    )
    DOCUMENT_BATCH_NOT_FOUND = Entry(
        Code.NOT_FOUND, "The collection has no batch named {name}.", "trivium.retriever.v1.DocumentBatch"
    )
    DOCUMENT_EMPTY = Entry(Code.INVALID_ARGUMENT, "The document {name} holds no text: nothing in it could be found.")
    DOCUMENT_ID_TAKEN = Entry(
        Code.ALREADY_EXISTS,
        "The id {name} cannot be used by this caller in this collection. Choose another, or ask an owner of the tenant.",
        "trivium.retriever.v1.Document",
    )
    DOCUMENT_NOT_FOUND = Entry(Code.NOT_FOUND, "No document is named {name}.", "trivium.retriever.v1.Document")
    DOCUMENT_NOT_PARSED = Entry(
        Code.INVALID_ARGUMENT, "The document {name} could not be split: {problem}. Split it, or send it as plain text."
    )
    DOCUMENT_NOT_TEXT = Entry(
        Code.INVALID_ARGUMENT, "The document {name} is not text that can be read: {problem}. {remedy}"
    )
    DOCUMENT_TOO_LARGE = Entry(
        Code.INVALID_ARGUMENT,
        "The document {name} has {size_bytes} bytes, over the limit of {limit_bytes}. Split it, or have the limit raised.",
    )
    DOCUMENT_UNREADABLE = Entry(Code.INVALID_ARGUMENT, "The document {name} could not be read: {problem}. {remedy}")
    DOCUMENT_VERSION_NOT_FOUND = Entry(
        Code.NOT_FOUND, "The document {document} has no version {name}.", "trivium.retriever.v1.DocumentVersion"
    )
    EMBEDDING_MODEL_CHANGED = Entry(
        Code.FAILED_PRECONDITION,
        "The collection {name} holds vectors of the model {pinned}; the embedder now serves {serving}. Vectors of two "
        "models cannot be compared: serve the first one again (one of your own that was deleted: `trivium models restore`), "
        "or have the collection embedded anew by Reembed (`trivium docs reembed`).",
        "trivium.retriever.v1.Collection",
    )
    EMBEDDING_MODELS_DIFFER = Entry(
        Code.INVALID_ARGUMENT,
        "The collections {name} and {other} hold vectors of two models, which cannot be compared: search each by itself, or "
        "have one embedded by the other's model (`trivium docs reembed {other} {digest}`).",
        "trivium.retriever.v1.Collection",
    )
    FILTER_INVALID = Entry(Code.INVALID_ARGUMENT, "The filter on {name} cannot be applied: {problem}.")
    FILTER_TYPE_MISMATCH = Entry(
        Code.INVALID_ARGUMENT,
        "The metadata {name} are of type {stored} in these collections, and the filter's {operator} looks for {asked}. "
        "{remedy}.",
    )
    GENERATOR_NOT_SET = Entry(
        Code.FAILED_PRECONDITION,
        "This needs a generator, and the retriever was told that there is none: set TRIVIUM_RETRIEVER_GENERATION=true and "
        "TRIVIUM_GENERATOR_ADDRESS to where one serves, and start the retriever again.",
    )
    INDEX_NOT_SET = Entry(
        Code.FAILED_PRECONDITION,
        "There is no {name} index here: set TRIVIUM_RETRIEVER_WEAVIATE_URL to where a server listens, and start the "
        "retriever again.",
    )
    SEARCH_PAGES_EXPIRED = Entry(
        Code.OUT_OF_RANGE,
        "The pages of this search were kept for {kept_seconds} seconds, and that is over. Search again without a page token.",
    )
    SOURCE_AWAY = Entry(Code.UNAVAILABLE, "{uri} does not answer now: {problem}. It is tried again.")
    SOURCE_NOT_ALLOWED = Entry(Code.FAILED_PRECONDITION, "{uri} is not read from here: {problem}.")
    SOURCE_NOT_FOUND = Entry(Code.NOT_FOUND, "No source is named {name}.", "trivium.retriever.v1.Source")
    SOURCE_UNREADABLE = Entry(Code.FAILED_PRECONDITION, "{uri} could not be read: {problem}.")
    COLLECTION_REEMBEDDING = Entry(
        Code.FAILED_PRECONDITION,
        "The collection {name} changes its embedding model now. Wait until it has it, or cancel that.",
        "trivium.retriever.v1.Collection",
    )
    INDEX_NOT_VERIFIED = Entry(
        Code.ABORTED,
        "The new build in the index {index} holds other entries than the catalog ({found} of {wanted} chunks): the old one "
        "goes on serving. Try again, and report it if it happens twice.",
    )
    SPAN_OUT_OF_RANGE = Entry(
        Code.OUT_OF_RANGE, "Characters [{start}, {end}) are not all inside the version, which has {characters}."
    )

    # Files, batches and stored responses
    BATCH_ENDED = Entry(Code.FAILED_PRECONDITION, "The batch {name} cannot be cancelled any more: it is {state}.")
    BATCH_NOT_FOUND = Entry(Code.NOT_FOUND, "No batch has the id {name}.", "trivium.files.v1.Batch")
    BATCHES_EXHAUSTED = Entry(
        Code.RESOURCE_EXHAUSTED,
        "The tenant has {limit} batches that have not ended, the most there may be. Wait for one, or cancel one.",
    )
    CONVERSATION_TOO_LONG = Entry(
        Code.OUT_OF_RANGE,
        "The conversation that ends with {name} has more than {limit} responses. Begin a new one.",
        "trivium.files.v1.Response",
    )
    FILE_NOT_FOUND = Entry(Code.NOT_FOUND, "No file has the id {name}.", "trivium.files.v1.File")
    FILE_RESTRICTED = Entry(
        Code.PERMISSION_DENIED,
        "The file {name} is in a vector store as a document that you may not read, so that nothing was deleted. Ask an owner of "
        "the tenant to delete it.",
        "trivium.files.v1.File",
    )
    FILE_TOO_LARGE = Entry(
        Code.RESOURCE_EXHAUSTED, "The file has more than {limit_bytes} bytes, the most that one may have. Split it."
    )
    FILES_EXHAUSTED = Entry(
        Code.RESOURCE_EXHAUSTED,
        "The tenant keeps {files} files of {held_bytes} bytes, and this one has {size_bytes}; together they may be {limit} "
        "files of {limit_bytes} bytes. Delete some.",
    )
    REQUEST_NOT_KEPT = Entry(
        Code.FAILED_PRECONDITION,
        "Of the request {name} nothing is kept but its receipt, which has digests and no text: it is no stored response, nor a "
        "line of a batch whose input file is still there. Bring it as it was sent: trivium replay {name} --request FILE.",
        "trivium.common.v1.Receipt",
    )
    RESPONSE_EXISTS = Entry(
        Code.ALREADY_EXISTS, "Another response is already stored under {name}.", "trivium.files.v1.Response"
    )
    RESPONSE_NOT_FOUND = Entry(Code.NOT_FOUND, "No response has the id {name}.", "trivium.files.v1.Response")
    RESPONSE_NOT_IN_BACKGROUND = Entry(
        Code.FAILED_PRECONDITION,
        "The response {name} does not run in the background, so there is nothing to cancel. Close the call that asks instead.",
        "trivium.gateway.v1.Response",
    )
    RESPONSES_EXHAUSTED = Entry(
        Code.RESOURCE_EXHAUSTED,
        "The tenant's stored responses have {held_bytes} bytes, and this one has {size_bytes}; together they may have "
        "{limit_bytes}. Delete some, or ask without storing the answer.",
    )

    # Training
    BASE_CHANGED = Entry(
        Code.FAILED_PRECONDITION,
        "The job is on the base {name} with the digest {digest}, and this deployment trains on {known} by now: weights "
        "of two bases cannot be mixed. Order the job again, or have the operator put the first base back before you do: its "
        "files where they were edited, or its entry in TRIVIUM_TRAINER_BASES. Edited files are trained on once the trainer "
        "was restarted.",
        "base model",
    )
    BASE_NOT_FOUND = Entry(Code.NOT_FOUND, "No base is named {name}; this deployment trains on {known}.", "base model")
    DATASET_IN_USE = Entry(Code.FAILED_PRECONDITION, "The dataset {name} is used by {user}. Wait for it or cancel it.")
    DATASET_MALFORMED = Entry(
        Code.INVALID_ARGUMENT,
        "This cannot be trained on: {what}. It was not kept as a dataset; all that is wrong with it is listed for a day: "
        "trivium data problems sha256:{sha256}",
    )
    DATASET_NOT_FOUND = Entry(Code.NOT_FOUND, "No dataset is named {name}.", "trivium.trainer.v1.Dataset")
    DATASET_REPORT_NOT_FOUND = Entry(
        Code.NOT_FOUND,
        "No list of problems is kept for {name}: lists go after a day. Validate the dataset, or upload it again.",
        "trivium.trainer.v1.Dataset",
    )
    DATASET_TOO_LARGE = Entry(
        Code.RESOURCE_EXHAUSTED, "The dataset has {size_bytes} bytes, over the limit of {limit_bytes}. Split it."
    )
    DATASET_UNCHECKED = Entry(
        Code.INVALID_ARGUMENT, "Checking the dataset takes more than {limit}. Shorten its rows, or split the file."
    )
    CHECKPOINT_NOT_FOUND = Entry(
        Code.NOT_FOUND, "The job {name} keeps no checkpoint{step}; it keeps {kept}.", "trivium.trainer.v1.Checkpoint"
    )
    CHECKPOINT_TOO_NEW = Entry(
        Code.FAILED_PRECONDITION,
        "A later release of the trainer wrote the checkpoint of step {step}: it has format {format}, and this release reads "
        "up to {known}. Update the trainer, or order the job anew.",
    )
    CHECKPOINT_UNFIT = Entry(
        Code.FAILED_PRECONDITION, "No version can be made of the checkpoint of step {step}: {problem}."
    )
    JOB_FINISHED = Entry(Code.FAILED_PRECONDITION, "The job {name} has come too far for that: {state}.{remedy}")
    JOB_NOT_FOUND = Entry(Code.NOT_FOUND, "No job is named {name}.", "trivium.trainer.v1.Job")
    JOBS_EXHAUSTED = Entry(
        Code.RESOURCE_EXHAUSTED,
        "The tenant has {unfinished} jobs that have not ended, of {limit} that it may have at a time; this asks for "
        "{added} more. Wait until some have ended, or cancel some; the operator raises the limit with "
        "TRIVIUM_TRAINER_MAX_UNFINISHED_JOBS_PER_TENANT.",
    )
    JOB_UNREACHABLE = Entry(Code.FAILED_PRECONDITION, "The job {name} cannot begin: {problem}.")
    JOB_NOT_PAUSED = Entry(Code.FAILED_PRECONDITION, "The job {name} is {state}; only a paused job is resumed.")
    PROCESS_LOST = Entry(
        Code.INTERNAL, "The training process ended {count} times without getting further; last: {status}."
    )
    PUBLICATIONS_EXHAUSTED = Entry(
        Code.RESOURCE_EXHAUSTED,
        "The tenant has {limit} versions of checkpoints under way, the most there may be at a time. Retry when one is made.",
    )
    RECIPE_NOT_FOUND = Entry(
        Code.NOT_FOUND,
        "No recipe is named {name}; there are {known}.",
        "trivium.trainer.v1.Recipe",
    )
    RECIPE_UNFIT = Entry(Code.FAILED_PRECONDITION, "The recipe {name} does not fit the dataset {dataset}: {problem}.")
    SETTINGS_UNFIT = Entry(Code.INVALID_ARGUMENT, "The settings do not fit: {problem}.")
    SWEEP_FINISHED = Entry(Code.FAILED_PRECONDITION, "The sweep {name} has already ended: {state}.")
    SWEEP_NOT_FOUND = Entry(Code.NOT_FOUND, "No sweep is named {name}.", "trivium.trainer.v1.Sweep")
    TRAINING_DIVERGED = Entry(Code.FAILED_PRECONDITION, "Training diverged: {problem}. Lower the learning rate.")
