"""Fills beets' ``genres`` by genrescope's classifier: ``plugins: genrescope``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import confuse
from beets import ui
from beets.library import Album, Item
from beets.plugins import BeetsPlugin

import genrescope
from genrescope.errors import GenrescopeError
from genrescope.tagging.policy import Existing, Policy, choose
from genrescope.taxonomy import Taxonomy, load_taxonomy

if TYPE_CHECKING:
    from optparse import Values

    from beets.importer import ImportSession, ImportTask
    from beets.library import Library

    from genrescope.classifier import Classifier

_TOLERANCE = 1e-6  # thirds of an album are not exactly so
_OPTIONS = (
    ("-p", "--pretend", "pretend", True, "show the changes without making them"),
    ("-f", "--force", "force", True, "replace existing genres"),
    ("-F", "--no-force", "force", False, "do not replace existing genres"),
    ("-k", "--keep-existing", "keep_existing", True, "keep existing genres and add to them"),
    ("-K", "--no-keep-existing", "keep_existing", False, "do not add to existing genres"),
    ("-w", "--write", "write", True, "write tags to files"),
    ("-W", "--nowrite", "write", False, "write nothing to files"),
)


class GenrescopePlugin(BeetsPlugin):
    """``beet genrescope``, and a stage of ``beet import``."""

    def __init__(self) -> None:
        super().__init__()
        self.config.add(
            {
                "auto": True,
                "force": False,
                "keep_existing": False,
                "pretend": False,
                "min_confidence": Policy.min_confidence,
                "min_second": Policy.min_second,
                "max_genres": Policy.max_genres,
                "map": None,
                "model": None,
                "threads": 0,
            }
        )
        if self.config["auto"].get(bool):
            self.register_listener("import_begin", self._begin)
            self.import_stages = [self._imported]

    def commands(self) -> list[ui.Subcommand]:
        """Give ``beet genrescope``."""
        command = ui.Subcommand("genrescope", help="classify tracks without a genre")
        for short, long, name, value, text in _OPTIONS:
            action = "store_true" if value else "store_false"
            command.parser.add_option(
                short, long, dest=name, action=action, default=None, help=text
            )
        command.func = self._command
        return [command]

    def _command(self, library: Library, options: Values, query: list[str]) -> None:
        names = ("pretend", "force", "keep_existing")
        self.config.set_args({name: getattr(options, name) for name in names})
        self._begin()
        items = list(library.items(query))
        self._process(items, write=ui.should_write(options.write))
        if self.config["pretend"].get(bool):
            return
        for number in sorted({item.album_id for item in items if item.album_id}):
            if (album := library.get_album(number)) is not None:
                self._summarise(album)

    def _begin(self, session: ImportSession | None = None) -> None:  # noqa: ARG002  beets gives it
        """Open the model and settings; raise their errors before anything is changed."""
        try:
            _ = self.taxonomy, self.policy, self.classifier
        except GenrescopeError as error:
            raise ui.UserError(f"genrescope: {error}") from error  # type: ignore[attr-defined]

    def _imported(self, session: ImportSession, task: ImportTask) -> None:  # noqa: ARG002
        # The import writes the tags afterwards, if it is configured to.
        self._process(task.imported_items(), write=False)
        if task.is_album and task.album is not None:
            self._summarise(task.album)

    @cached_property
    def classifier(self) -> Classifier:
        """The model, opened on first use."""
        return genrescope.load(self.config["model"].get(confuse.Optional(str)))

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The default, or the file of the setting ``map``."""
        named = self.config["map"].get(confuse.Optional(confuse.Filename()))
        return load_taxonomy(Path(named) if named else None)

    @cached_property
    def policy(self) -> Policy:
        """The policy that settings and options ask for."""
        keep, force = (self.config[name].get(bool) for name in ("keep_existing", "force"))
        return Policy(
            Existing.ADD if keep else Existing.REPLACE if force else Existing.SKIP,
            self.config["min_confidence"].get(float),
            self.config["max_genres"].get(int),
            map_existing=bool(self.config["map"].get()),
            min_second=self.config["min_second"].get(float),
        )

    def _process(self, items: Iterable[Item], *, write: bool) -> None:
        from genrescope.classifier.batch import classify_files  # noqa: PLC0415  `beet ls` stays quick

        if self.policy.existing == Existing.SKIP:
            items = (item for item in items if not _genres(item))
        wanting = list(items)
        paths = [item.filepath for item in wanting]
        threads = max(self.config["threads"].get(int), 0)  # 0: one per core
        answers = classify_files(self.classifier, paths, workers=threads)
        for item, answer in zip(wanting, answers, strict=True):
            if answer.prediction is None:
                self._log.warning("{}", answer.error)
            elif self._choose(
                item,
                answer.prediction.probabilities,
                self.policy,
                other=answer.prediction.other,
                unsure_below=self.classifier.config.unsure_below,
            ):
                item.try_sync(write=write, move=False)

    def _summarise(self, album: Album) -> None:
        """Give an album the genres that its tracks agree on."""
        votes: dict[str, float] = {}
        items = list(album.items())
        for genres in map(_genres, items):
            for genre in genres:
                votes[genre] = votes.get(genre, 0.0) + 1 / len(genres) / len(items)
        # Shares of tracks, not probabilities: an album may have several genres, none of which most
        # of its tracks have.
        ranked = sorted(votes.items(), key=lambda vote: -vote[1])[: self.policy.max_genres]
        common = {genre: share for genre, share in ranked if share >= ranked[0][1] / 2}
        if sum(common.values()) < self.policy.min_confidence - _TOLERANCE:
            return
        policy = replace(self.policy, min_confidence=0.0, min_second=0.0)
        if self._choose(album, common, policy):
            album.store(inherit=False)

    def _choose(
        self,
        model: Item | Album,
        probabilities: Mapping[str, float],
        policy: Policy,
        **model_says: Any,
    ) -> bool:
        """Set the genres; return whether to save them."""
        choice = choose(_genres(model), probabilities, self.taxonomy, policy, **model_says)
        if choice.genres is None:
            log = self._log.info if isinstance(model, Item) else self._log.debug
            log("{}: {}", model, choice.reason)
            return False
        model.genres = list(choice.genres)
        ui.show_model_changes(model, fields=["genres"])
        return not self.config["pretend"].get(bool)


def _genres(model: Item | Album) -> list[str]:
    """Its own genres, not those of its album."""
    own = {"with_album": False} if isinstance(model, Item) else {}
    return list(model.get("genres", **own) or [])
