"""How passages are ordered, in the retriever's words: shared by whoever searches there."""

from trivium.retriever.v1 import retriever_pb2 as pb

# What a ranker may be called that names none.
_AUTO = ("", "auto")
_NONE = "none"


def rank(request: pb.SearchRequest, ranker: str, dense_weight: float | None) -> None:
    """Say it in the request; what is not said is as the collections have it.  Weights are of scores, not of ranks."""
    if ranker == _NONE:
        request.rerank = False
    elif ranker not in _AUTO:
        request.rerank_model = ranker
    if dense_weight is not None:
        request.fusion = pb.FUSION_SCORE
        request.dense_weight = dense_weight
