"""The rows of what is written from documents, questions and summaries; the others stand in `store`."""

from sqlalchemy import ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from services.retriever.store import Base, Number


class QuestionsRow(Base):
    """Questions that a text answers, as a list of JSON: at most as many as were asked for."""

    __tablename__ = "chunk_questions"
    tenant: Mapped[str] = mapped_column(String(128), primary_key=True)
    text_digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    asked: Mapped[int] = mapped_column(Integer)
    # Of the weights that wrote them.
    writer: Mapped[str] = mapped_column(String(80))
    questions_json: Mapped[str] = mapped_column(Text)


class QuestionVectorsRow(Base):
    """The vectors of a text's questions, one behind the other; ``asked`` is that of the questions."""

    __tablename__ = "question_vectors"
    tenant: Mapped[str] = mapped_column(String(128), primary_key=True)
    model_digest: Mapped[str] = mapped_column(String(80), primary_key=True)
    text_digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    asked: Mapped[int] = mapped_column(Integer)
    # Little-endian binary16.
    vectors: Mapped[bytes] = mapped_column(LargeBinary)


class SummaryRow(Base):
    """What a node of a summary tree says.  ``key`` follows from all that it was computed from (``summaries/nodes``)."""

    __tablename__ = "summary_nodes"
    __table_args__ = (Index("ix_summary_nodes_collection", "collection_number", "mode"),)
    key: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(128))
    collection_number: Mapped[int] = mapped_column(Number, ForeignKey("collections.number", ondelete="CASCADE"))
    # Of a ``summaries.Mode``.
    mode: Mapped[str] = mapped_column(String(16))
    level: Mapped[int] = mapped_column(Integer)
    statements_json: Mapped[str] = mapped_column(Text)


class SummaryInputRow(Base):
    """A document of which a node of a summary tree says something, or could: it goes when the document does."""

    __tablename__ = "summary_inputs"
    __table_args__ = (Index("ix_summary_inputs_document", "document_number"),)
    key: Mapped[bytes] = mapped_column(
        LargeBinary(32), ForeignKey("summary_nodes.key", ondelete="CASCADE"), primary_key=True
    )
    document_number: Mapped[int] = mapped_column(
        Number, ForeignKey("documents.number", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
