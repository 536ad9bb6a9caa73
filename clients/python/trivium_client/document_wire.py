"""Collections, documents and hits from the wire.  Part of `wire`."""

from __future__ import annotations

from trivium.retriever.v1 import retriever_pb2

from trivium_client import metadata, nouns, wire


def collection(message: retriever_pb2.Collection) -> nouns.Collection:
    """From the wire."""
    return nouns.Collection(
        collection=message.collection,
        description=message.description,
        embedding_digest=message.embedding_digest,
        etag=message.etag,
        create_time=wire.time(message.create_time),
        search_settings=settings(message.search_settings),
        answerable_threshold=message.answerable_threshold,
        former_answerable_threshold=message.former_answerable_threshold
        if message.HasField("former_answerable_threshold")
        else None,
        questions=_questions(message.questions) if message.HasField("questions") else None,
        index=wire.word(retriever_pb2.IndexKind, message.index),
        reembedding=_reembedding(message.reembedding) if message.HasField("reembedding") else None,
    )


def _reembedding(message: retriever_pb2.Reembedding) -> nouns.Reembedding:
    return nouns.Reembedding(
        model=message.model,
        embedding_digest=message.embedding_digest,
        running=message.running,
        reason=message.reason,
        documents=message.documents,
        documents_done=message.documents_done,
    )


def index_build(message: retriever_pb2.ReindexResponse) -> nouns.IndexBuild:
    """From the wire."""
    return nouns.IndexBuild(
        index=wire.word(retriever_pb2.IndexKind, message.index),
        chunks_done=message.chunks_done,
        chunks=message.chunks,
        digest=message.digest,
    )


def _questions(message: retriever_pb2.QuestionProgress) -> nouns.QuestionProgress:
    return nouns.QuestionProgress(message.chunks, message.chunks_done, message.reason)


def settings(message: retriever_pb2.SearchSettings) -> nouns.SearchSettings:
    """From the wire."""
    return nouns.SearchSettings(
        mode=wire.word(retriever_pb2.SearchMode, message.mode) if message.mode else "",
        # A float of the wire as people wrote it.
        dense_weight=round(message.dense_weight, 6) if message.HasField("dense_weight") else None,
        rerank=message.rerank,
        rerank_model=message.rerank_model,
        hyde=wire.word(retriever_pb2.HydeUse, message.hyde) if message.hyde else "off",
        decompose=message.decompose,
        questions_per_chunk=message.questions_per_chunk,
        abstention=wire.word(retriever_pb2.AbstentionPolicy, message.abstention) if message.abstention else "",
    )


def tuning_report(message: retriever_pb2.TuningReport) -> nouns.TuningReport:
    """From the wire."""
    trials = (
        nouns.TuningTrial(
            trial=it.trial,
            search_settings=settings(it.search_settings),
            ndcg=it.ndcg,
            recall=it.recall,
            gain=it.gain,
            gain_low=it.gain_low,
            gain_high=it.gain_high,
            seconds=it.seconds,
            taken=it.taken,
            note=it.note,
        )
        for it in message.trials
    )
    told = calibration(message.calibration) if message.HasField("calibration") else None
    return nouns.TuningReport(tuple(trials), settings(message.search_settings), message.applied, told)


def calibration(message: retriever_pb2.Calibration) -> nouns.Calibration:
    """From the wire."""
    return nouns.Calibration(
        threshold=message.threshold,
        auc=message.auc,
        answered=message.answered,
        refused=message.refused,
        gain=message.gain,
        gain_low=message.gain_low,
        gain_high=message.gain_high,
        taken=message.taken,
    )


def to_settings(settings: nouns.SearchSettings) -> retriever_pb2.SearchSettings:
    """To the wire.  Raises ValueError for a word that is none."""
    return retriever_pb2.SearchSettings(
        mode=wire.number(retriever_pb2.SearchMode, settings.mode, "mode"),
        dense_weight=settings.dense_weight,
        rerank=settings.rerank,
        rerank_model=settings.rerank_model,
        hyde=wire.number(retriever_pb2.HydeUse, settings.hyde, "hyde"),
        decompose=settings.decompose,
        questions_per_chunk=settings.questions_per_chunk,
        abstention=wire.number(retriever_pb2.AbstentionPolicy, settings.abstention, "abstention"),
    )


def document(message: retriever_pb2.Document) -> nouns.Document:
    """From the wire."""
    return nouns.Document(
        collection=message.collection,
        document=message.document,
        title=message.title,
        state=wire.word(retriever_pb2.IngestionState, message.state),
        reason=message.reason,
        serving_version=message.serving_version,
        newest_version=message.newest_version,
        media_type=message.media_type,
        metadata=dict(message.metadata),
        chunks=message.chunks,
        chunks_embedded=message.chunks_embedded,
        chunks_reused=message.chunks_reused,
        update_time=wire.time(message.update_time),
        source_sha256=message.source_sha256,
        notice=message.notice,
        readers=tuple(message.readers),
        typed_metadata={name: metadata.value(held) for name, held in message.typed_metadata.items()},
    )


def hit(message: retriever_pb2.Hit) -> nouns.Hit:
    """From the wire."""
    return nouns.Hit(
        span=_span(message),
        text=message.text,
        title=message.title,
        heading_path=tuple(message.heading_path),
        score=message.score,
        dense_score=message.dense_score if message.HasField("dense_score") else None,
        sparse_score=message.sparse_score if message.HasField("sparse_score") else None,
        rerank_score=message.rerank_score if message.HasField("rerank_score") else None,
        duplicates=tuple(map(_span, message.duplicates)),
        merged_chunks=tuple(message.merged_chunks),
        first_page=message.first_page,
        last_page=message.last_page,
        places=tuple(
            nouns.ListPlace(it.list, it.query, it.rank, it.score, it.part) for it in message.explanation.places
        ),
    )


def findings(message: retriever_pb2.SearchResponse) -> nouns.Findings:
    """From the wire."""
    told = message.answerability
    return nouns.Findings(
        hits=tuple(map(hit, message.hits)),
        answerability=nouns.Answerability(told.score, told.threshold, told.answerable)
        if message.HasField("answerability")
        else None,
        expansions=tuple(
            nouns.SearchExpansion(
                wire.word(retriever_pb2.ExpansionKind, it.kind), it.applied, it.reason, tuple(it.texts)
            )
            for it in message.expansions
        ),
        reranking=nouns.Reranking(message.rerank.applied, message.rerank.reason, message.rerank.passages)
        if message.HasField("rerank")
        else None,
    )


def _span(message: retriever_pb2.Hit | retriever_pb2.Passage) -> nouns.Span:
    return nouns.Span(
        collection=message.collection,
        document=message.document,
        version=message.version,
        start=message.start,
        end=message.end,
        chunk=message.chunk,
    )
