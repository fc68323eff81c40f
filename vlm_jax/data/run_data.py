"""All data of a run in one place: sources, splits, tokenizer, labels, and the batches of training and evaluation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jax.sharding import Mesh

from vlm_jax.config.rules import TEXT_ONLY
from vlm_jax.config.schema import Config
from vlm_jax.contract import END, START, Batch, DatasetInfo, LabelSpace, Record
from vlm_jax.data.changes import NO_CHANGES, Changes, draw_changes
from vlm_jax.data.collate import Collator, Row
from vlm_jax.data.mixture import Mixture
from vlm_jax.data.pipeline import check_divides, data_shard, read_batches, to_global
from vlm_jax.data.record_table import RecordTable
from vlm_jax.data.records import SourceRecords, build_records, unit_of
from vlm_jax.data.run_sources import NOTHING, agreeing_sources, check_places, label_counts, open_all, unsplit
from vlm_jax.data.sampling import source_shares
from vlm_jax.data.split_rules import SPLITS
from vlm_jax.data.splits import SourceSplit, split_sources
from vlm_jax.data.texts import cut_texts, texts_of, untaught
from vlm_jax.data.timings import RowTimings
from vlm_jax.errors import EnvironmentFault, UserError
from vlm_jax.text.normalise import mirror
from vlm_jax.text.tokenizer import NEW, Tokenizer


@dataclass
class RunData:
    """The data of one run; build it with `RunData.open`.

    Attributes:
      config: the run's.
      sources: what is true of each source, by its name.
      fingerprints: of each data set, in the order of `data.path`.
      table: all records; position i is row i.
      splits: of each data set, in the order of `data.path`.
      tokenizer, labels: the run's, or the checkpoint's where given.
      notices: what a reader of the results must know, one line each.
      broken: row -> what is wrong with it, of the records that this process could not read.
      set_aside: row -> why, of the records that training leaves out like broken ones; the same on all processes.
      timings: what the reading threads of training spend their time on.
    """

    config: Config
    sources: dict[str, DatasetInfo]
    fingerprints: list[str]
    table: RecordTable
    splits: list[SourceSplit]
    parts: list[SourceRecords]
    labels: LabelSpace
    tokenizer: Tokenizer
    notices: list[str]
    broken: dict[int, str] = field(default_factory=dict)
    set_aside: dict[int, str] = field(default_factory=dict)
    timings: RowTimings = field(default_factory=RowTimings)

    @classmethod
    def open(
        cls,
        config: Config,
        tokenizer: Tokenizer | None = None,
        labels: LabelSpace | None = None,
        *,
        whole: bool = False,
        trained_on: Iterable[str] = (),
    ) -> RunData:
        """Opens, joins and splits the data sets of `config.data.path`.

        Args:
          config: the run's.
          tokenizer: a checkpoint's; by default `data.tokenizer`, or one trained on the training texts.
          labels: a checkpoint's; a data set's label that is not among them is left out, with a notice.
          whole: no record trains, validates or tests, whatever `data.split` says: to score all of them.
          trained_on: sources that `data.split` may have rules for though `data.path` lacks them.

        Raises:
          UserError: a data set, a split rule or a tokenizer that cannot be used.
        """
        if not config.data.path:
            raise UserError("data.path is empty: name a data set with --config.data.path=DIR")
        datasets = open_all(config.data.path)
        sources = agreeing_sources(datasets)
        unit = unit_of(config.tasks)
        parts = [build_records(dataset, config.data, unit) for dataset in datasets]
        if empty := [str(d.path) for d, part in zip(datasets, parts, strict=True) if not len(part)]:
            raise UserError(f"data.path: '{empty[0]}' {NOTHING[unit]}")
        splits = unsplit(parts) if whole else split_sources(parts, config, set(trained_on) - set(sources))
        table = RecordTable(parts, [s.groups for s in splits])
        notices = list(dict.fromkeys(n for some in (*splits, *parts) for n in some.notices))
        own = LabelSpace.union({name: info.labels for name, info in sources.items()})
        if labels is not None and (unknown := [n for n in own.names if n not in labels.names]):
            notices.append(f"labels that the model does not know are left out: {', '.join(unknown)}")
        fingerprints, words = [d.fingerprint for d in datasets], tokenizer or Tokenizer.train((), 0)
        data = cls(config, sources, fingerprints, table, splits, parts, labels or own, words, notices)
        if tokenizer is None and unit != "frames":  # pixels alone need no words
            data.tokenizer = data._own_tokenizer()
        if unit == "joined":
            check_places(sources, config)
            data.notices += untaught(parts, splits, config) if labels is None else ()
            foreign = labels is None and (tokenizer is not None or config.data.tokenizer not in ("", NEW))
            data.notices += cut_texts(data.tokenizer, data.train_texts(), config.data, foreign=foreign)
        return data

    # --- What there is -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def codes(self) -> np.ndarray:
        """int8[n]: the split of each row, as a place in SPLITS; -1 = none."""
        return np.concatenate([s.codes for s in self.splits])

    def records(self, split: str) -> RecordTable:
        """The records of `train`, `validation` or `test`, in the order of procedures and time; `all` for every one."""
        if split == "all":
            return self.table
        if split not in SPLITS:
            raise UserError(f"split: expected {', '.join(SPLITS)} or all, got '{split}'")
        return self.table.view(np.flatnonzero(self.codes == SPLITS.index(split)))

    @functools.cached_property
    def group_levels(self) -> dict[str, str]:
        """{source: what its records are split and resampled by: patient, procedure or sequence}."""
        levels: dict[str, set[str]] = {}
        for part, split in zip(self.parts, self.splits, strict=True):
            levels.setdefault(part.info.source, set()).add(split.level)
        return {source: "+".join(sorted(found)) for source, found in levels.items()}

    def train_texts(self) -> list[str]:
        """Every text that training may read or write, sorted, each once; of the training split alone."""
        found: set[str] = set()
        for part, split in zip(self.parts, self.splits, strict=True):
            found |= texts_of(part, np.flatnonzero(split.codes == SPLITS.index("train")))
        return sorted(found - {START, END})

    def label_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """(positives, negatives), each int64[C], over the training records."""
        return label_counts(self.parts, self.splits, self.columns, len(self.labels))

    @functools.cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """source -> the column of `labels` of each of its own labels, -1 where there is none."""
        place = {name: i for i, name in enumerate(self.labels.names)}
        return {
            source: np.array([place.get(f"{source}/{label}", -1) for label in info.labels], np.int64)
            for source, info in self.sources.items()
        }

    def _own_tokenizer(self) -> Tokenizer:
        if self.config.data.tokenizer not in ("", NEW):
            return Tokenizer.from_file(self.config.data.tokenizer)
        texts = self.train_texts()
        if self.config.augment.flip:
            texts = sorted({*texts, *map(mirror, texts)})
        return Tokenizer.train(texts, self.config.data.vocab_size)

    # --- Batches -----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _collator(self) -> Collator:
        return Collator(self.tokenizer, self.labels, self.config, self.columns)

    @functools.cached_property
    def mixture(self) -> Mixture:
        """Which training record stands in which slot."""
        offsets = np.cumsum([0, *map(len, self.parts)])
        train = SPLITS.index("train")
        rows = [np.flatnonzero(s.codes == train) + o for s, o in zip(self.splits, offsets[:-1], strict=True)]
        data = self.config.data
        shares = [source_shares(p, own - o, data) for p, own, o in zip(self.parts, rows, offsets[:-1], strict=True)]
        return Mixture(rows, data.weights, self.config.seed, shares)

    def train_batches(
        self, mesh: Mesh | None = None, start_step: int = 0, *, shard: tuple[int, int] | None = None
    ) -> Iterator[Batch]:
        """Batches without end, from batch `start_step` on; batch i depends on i, the config and the data alone.

        Args:
          mesh: gives global arrays over its (data, fsdp) axes; None gives numpy arrays.
          start_step: batches already taken; the whole state of the stream.
          shard: (index, count) of the part to read; by default this process's place in the mesh.
        """
        size = self.config.train.batch_size
        if shard is None:
            shard = self._shard(mesh, size, "train.batch_size")
        batches = self._read(self._train_row, size, shard, start_step, None)
        return batches if mesh is None else (to_global(batch, mesh, size) for batch in batches)

    def batches(
        self,
        view: RecordTable | Sequence[int] | np.ndarray,
        batch_size: int,
        *,
        rows: Sequence[int] | np.ndarray | None = None,
        mesh: Mesh | None = None,
        overrides: Mapping[int, Record] | None = None,
        pictures: Mapping[int, int] | None = None,
    ) -> Iterator[Batch]:
        """Batches for evaluation, not augmented, in the given order; the last one is padded with valid = False.

        Args:
          view: the records, or global rows.
          batch_size: global.
          rows: positions in `view`; by default all of it.
          mesh: as in `train_batches`.
          overrides: position in `view` (or global row, where rows were given) -> the record to use in its place; its
            `image` may stay b"", then the frame's own is read, and None means that there is no image.
          pictures: position in `view` -> the position whose frame, and those before it, are shown in its place.
        """
        if not isinstance(view, RecordTable):
            view, rows = self.table, np.asarray(view, np.int64)
        table, replaced, shown = view, overrides or {}, pictures or {}
        positions = np.arange(len(table)) if rows is None else np.asarray(rows, np.int64)

        def make_row(slot: int) -> Row:
            if slot >= len(positions):
                return self._collator.empty()
            position = int(positions[slot])
            record = replaced.get(position) or table.record(position, image=False)
            row, picture = (int(table.rows[i]) for i in (position, shown.get(position, position)))
            return self._row(record, row, picture, NO_CHANGES, strict=False)  # its answers are scored all the same

        shard = self._shard(mesh, batch_size, "eval.batch_size")
        batches = self._read(make_row, batch_size, shard, 0, -(-len(positions) // batch_size))
        return batches if mesh is None else (to_global(batch, mesh, batch_size) for batch in batches)

    def _shard(self, mesh: Mesh | None, batch_size: int, key: str) -> tuple[int, int]:
        if mesh is None:
            return 0, 1
        check_divides(mesh, batch_size, key)
        return data_shard(mesh, jax.process_index())

    def _read(
        self, make_row: Callable[[int], Row], size: int, shard: tuple[int, int], start: int, n_batches: int | None
    ) -> Iterator[Batch]:
        data = self.config.data
        return read_batches(
            make_row,
            batch_size=size,
            shard=shard,
            start=start,
            n_batches=n_batches,
            threads=data.threads,
            prefetch=data.prefetch,
        )

    # --- Rows --------------------------------------------------------------------------------------------------------

    def rows_of_batch(self, index: int) -> list[int]:
        """The rows of batch `index` of training, of all processes."""
        n = self.config.train.batch_size
        return [self.mixture.row(slot) for slot in range(index * n, index * n + n)]

    def _train_row(self, slot: int) -> Row:
        row = self.mixture.row(slot)
        if row in self.set_aside:
            return self._collator.empty(row)
        with self.timings.timed("row"):
            record = self.table.record(row, image=False)
            return self._row(record, row, row, draw_changes(self.config, slot, pictured=record.image is not None))

    def _row(self, record: Record, row: int, picture: int, changes: Changes, *, strict: bool = True) -> Row:
        """One slot of a batch. A record that cannot be read keeps it, empty, and is counted in `broken`."""
        try:
            image, mask = self._pixels(record, picture, strict)
        except EnvironmentFault:  # the disk went away: no fault of the record's
            raise
        except UserError as error:
            self.broken[row] = str(error)
            return self._collator.empty(row)
        part, place = self.table.locate(picture)
        before = [] if image is None else part.before(place, self.config.data)
        return self._collator.row(record, image, row=row, changes=changes, before=before, mask=mask)

    def _pixels(self, record: Record, row: int, strict: bool) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The image uint8[S, S, 3]; its mask uint8[S, S], where the run looks at masks and there is one."""
        if record.image is None or self.config.system in TEXT_ONLY:
            return None, None
        encoded, mask = record.image, record.mask
        if not encoded:
            part, place = self.table.locate(row)
            with self.timings.timed("read"):
                stored = part.dataset.read_frame(int(part.frame[place]))
            encoded, mask = stored.image, stored.mask
        with self.timings.timed("decode"):
            return self._collator.decode(encoded, mask, record.uid, strict=strict)
