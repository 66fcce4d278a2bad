"""How a program uses genrescope; ``mypy --strict`` checks it as a user's own code."""

from __future__ import annotations

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import genrescope
from genrescope import Classifier, GenrescopeError, InputError, Prediction, WaveformError

SAMPLING_RATE = 22050


def open_models(folder: Path) -> list[Classifier]:
    """By name, path, text and default."""
    genrescope.load().save_pretrained(folder)
    models = [genrescope.load(), genrescope.load(folder), genrescope.load(str(folder))]
    models += [genrescope.load(name) for name in genrescope.list_models("def*")]
    models.append(Classifier.from_pretrained(folder, threads=1))
    restored: Classifier = pickle.loads(pickle.dumps(models[0]))  # noqa: S301  our own
    return [*models, restored, Classifier(folder), Classifier(str(folder))]


def classify(classifier: Classifier) -> dict[str, float]:
    """Files, waveforms, lists, errors."""
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 5 * SAMPLING_RATE))
    first: Prediction = classifier.predict(genrescope.sample())
    second: Prediction = classifier(noise.astype(np.float32), SAMPLING_RATE)
    assert classifier.predict(noise.T, sampling_rate=SAMPLING_RATE).genre == second.genre
    both: list[Prediction] = classifier.predict([genrescope.sample(), str(genrescope.sample())])
    assert both == [first, first]
    safe = classifier.predict([genrescope.sample(), "gone.mp3"], on_error="return")
    good = [one.genre for one in safe if not isinstance(one, GenrescopeError)]
    bad = [one.cause for one in safe if isinstance(one, InputError)]
    assert (good, len(bad)) == ([first.genre], 1)
    try:
        classifier.predict(np.zeros(SAMPLING_RATE), SAMPLING_RATE)
    except WaveformError as error:
        logging.getLogger(__name__).info("%s", error)
    steps: list[str | None] = classifier.timeline(genrescope.sample()).best
    assert first.genre in steps
    return first.probabilities


def classify_library(classifier: Classifier, folder: Path) -> dict[str, str]:
    """Many files, in processes and in threads."""
    files = list(genrescope.find_audio([folder, genrescope.sample()], recursive=True))
    genres: dict[str, str] = {}
    for result in genrescope.classify_files(classifier, files, workers=2):
        if result.prediction is None:
            genres[result.path.name] = str(result.error)
        else:
            genres[result.path.name] = result.prediction.genre or "other"
    with ThreadPoolExecutor(2) as threads:
        assert [one.genre or "other" for one in threads.map(classifier.predict, files)] == list(
            genres.values()
        )
    return genres
