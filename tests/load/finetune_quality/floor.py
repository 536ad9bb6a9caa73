"""What a linear model over words makes of a set of labels: a language model that is not better teaches nothing.

The features are those of the figures in the data's own notes: words alone and in pairs, and runs of 2 to 5 characters,
weighted by TF-IDF; a linear support vector machine over both.
"""

from collections.abc import Sequence

from tests.load.finetune_quality.rows import Row
from tests.load.finetune_quality.scores import Measured, exact_match


def floor(training: Sequence[Row], test: Sequence[Row], seed: int) -> Measured:
    """Accuracy on the rows that the models are tested on, having seen the rows that they are trained on."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    features = make_union(TfidfVectorizer(ngram_range=(1, 2)), TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5)))
    machine = make_pipeline(features, LinearSVC(random_state=seed))
    machine.fit([row.text for row in training], [row.answer for row in training])
    given: list[str] = machine.predict([row.text for row in test]).tolist()
    return exact_match([row.answer for row in test], given)
