"""Fuzz a parser, guided by which of its lines each input reaches; needs atheris, on Linux or macOS.

    python tools/fuzz.py TARGET [options of libFuzzer, such as -max_total_time=60]

The targets are those of ``tests/fuzz/targets.py``. An input that makes one of them do anything but
work or refuse it in one line is written to ``crash-…`` in the folder where this is run; give that
file as the last argument to see it fail again.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fuzz"))

with atheris.instrument_imports(include=["genrescope", "yaml", "tomllib", "csv", "zipfile"]):
    import targets

    # What targets import only when they run.
    import genrescope.study.config  # noqa: F401
    import genrescope.training.recipe  # noqa: F401


def main() -> None:
    """Run the target that the command line names, from its own seeds."""
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        sys.exit(f"{__doc__}\nThere are: {', '.join(targets.TARGETS)}.")
    target = targets.TARGETS[sys.argv.pop(1)]

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)  # noqa: S311
        if rng.random() < 0.5:
            mutated: bytes = atheris.Mutate(data, longest)
            return mutated
        change = (rng.choice(targets.WAYS), rng.random(), rng.randrange(2**16))
        damaged: bytes = targets.damage(target, data, [change])
        return damaged[:longest]

    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder) / "corpus", Path(folder) / "words"
        corpus.mkdir()
        for number, seed in enumerate(target.seeds()):
            (corpus / str(number)).write_bytes(seed)
        entries = [
            '"' + "".join(f"\\x{byte:02x}" for byte in token) + '"'
            for token in targets.TOKENS
            if len(token) < 64
        ]
        words.write_text("\n".join(entries))
        options = [
            "-timeout=20",
            "-rss_limit_mb=3000",
            "-len_control=0",
            f"-dict={words}",
            *sys.argv[1:],
        ]
        # A file to see again is run alone.
        again = any(Path(option).is_file() for option in sys.argv[1:])
        atheris.Setup(
            [sys.argv[0], *options, *([] if again else [str(corpus)])],
            lambda data: targets.check(target, data),
            custom_mutator=mutate,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
