"""The lexical toxicity model: a linear model over words, read from the files of alt-profanity-check without running it.

Importing that package costs 1.4 s and 170 MB, nearly all of it scikit-learn, for 15,442 weights that are a few numpy
arrays. So its two files are read here by an unpickler that knows the ten names that stand in them and builds plain
objects; whatever else a file may name is refused, and none of its code runs.
"""

from __future__ import annotations

import importlib.util
import math
import pickle  # only through a reader that allows the names below
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from monitor.model import Floats

PACKAGE = "profanity_check"
_PLAIN = {
    ("sklearn.feature_extraction.text", "TfidfVectorizer"),
    ("sklearn.feature_extraction.text", "TfidfTransformer"),
    ("sklearn.calibration", "CalibratedClassifierCV"),
    ("sklearn.calibration", "_CalibratedClassifier"),
    ("sklearn.calibration", "_SigmoidCalibration"),
    ("sklearn.svm._classes", "LinearSVC"),
}
_NUMPY: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "float64"): np.float64,
    ("numpy._core.multiarray", "scalar"): lambda dtype, data: np.frombuffer(data, dtype)[0],
}
_WORDS = {  # how the model cuts a text into terms, which is what is done with it here
    "lowercase": True,
    "strip_accents": None,
    "analyzer": "word",
    "token_pattern": r"(?u)\b\w\w+\b",
    "ngram_range": (1, 1),
    "binary": False,
    "norm": "l2",
    "use_idf": True,
    "sublinear_tf": False,
}


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """An average of K calibrated linear classifiers over tf-idf terms.

    p(text) = mean over k of 1 / (1 + exp(slopes[k] * (weights[k] @ x + intercepts[k]) + offsets[k])), where x is the
    l2-normalised vector of count * idf (Platt's scaling, as in sklearn.calibration).
    """

    terms: list[str]
    """Lower-case words of two or more characters."""
    idf: Floats
    weights: Floats
    """K rows, one entry a term."""
    intercepts: Floats
    slopes: Floats
    offsets: Floats


@cache
def lexicon() -> Lexicon:
    """The model that is installed. Raises ModuleNotFoundError where it is not, ValueError where it is another one."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ModuleNotFoundError("toxicity: lexical needs the package alt-profanity-check, which is not installed")
    folder = Path(found.origin).parent / "data"
    return _read(folder / "vectorizer.joblib", folder / "model.joblib")


def _read(vectorizer: Path, classifier: Path) -> Lexicon:
    try:
        words, model = _restored(vectorizer), _restored(classifier)
        other = [name for name, value in _WORDS.items() if getattr(words, name) != value]
        if other:
            raise ValueError(f"{vectorizer.name}: {other[0]} is {getattr(words, other[0])!r}")
        terms = sorted(words.vocabulary_, key=words.vocabulary_.__getitem__)
        parts = model.calibrated_classifiers_
        result = Lexicon(
            terms,
            words._tfidf.idf_.values,  # noqa: SLF001  a plain object here
            np.concatenate([part.estimator.coef_.values for part in parts]),
            np.concatenate([part.estimator.intercept_.values for part in parts]),
            np.array([part.calibrators[0].a_ for part in parts]),
            np.array([part.calibrators[0].b_ for part in parts]),
        )
    except (AttributeError, EOFError, IndexError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{classifier.parent} does not hold the model of alt-profanity-check 1.9: {error}") from error
    if result.idf.shape != (len(terms),) or result.weights.shape != (len(result.slopes), len(terms)):
        raise ValueError(f"{classifier.parent} holds {len(terms)} terms and {result.weights.shape} weights")
    return result


def _restored(path: Path) -> Any:
    with path.open("rb") as file:
        return _Reader(file).load()


class _Exact:
    """A file without `peek`, so that the reader takes what it needs and not one byte of an array that follows."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.readline = file.read, file.readline


class _Reader(pickle.Unpickler):
    """Builds plain objects of the few classes that such a file may name."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(_Exact(file))
        self._file = file

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            file = self._file

            class Array:  # as it was written: the description is pickled, the bytes follow in the file
                def __setstate__(self, state: dict[str, Any]) -> None:
                    self.values = _array(file, state)

            return Array
        if (module, name) in _PLAIN:
            return SimpleNamespace
        if (module, name) in _NUMPY:
            return _NUMPY[module, name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in it")


def _array(file: BinaryIO, state: dict[str, Any]) -> Floats:
    """The array that stands at the file's position, behind one byte that counts the padding and the padding."""
    file.read(file.read(1)[0])
    size = math.prod(state["shape"]) * state["dtype"].itemsize
    data = file.read(size)
    if len(data) < size:
        raise EOFError(f"it ends within an array of {size} bytes")
    values: Floats = np.frombuffer(data, state["dtype"]).reshape(state["shape"])
    return values
