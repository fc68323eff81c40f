"""The one check of `--workdir` and `--checkpoint`: a local or gs:// directory, or a refusal in one line."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from vlm_jax.errors import EnvironmentFault, UserError

if TYPE_CHECKING:
    from etils import epath

_REMOTE = re.compile(r"(\w+)://")
_GLOB = re.compile(r"[\[\]*?]")


def work_directory(path: str | os.PathLike[str], flag: str = "--workdir", *, local: bool = False) -> epath.Path:
    """The directory, which need not exist yet.

    Args:
      path: a local directory or gs://BUCKET/...
      flag: what it was given with, for the error.
      local: whether the command writes what only a local disk takes.

    Raises:
      UserError: a file, a path through a file or with one of []*? in it, an address that is not gs://, or gs://
        without the extra `gcs`.
      EnvironmentFault: the bucket can't be reached.
    """
    from etils import epath

    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{flag} is a {type(path).__name__}: give a directory")
    path = os.fspath(path)
    given = f"{flag} '{path}'"
    remote = _REMOTE.match(path)
    if not path.strip():
        raise UserError(f"{flag} is empty: give a directory, as in {flag} runs/tiny")
    if remote and (local or remote[1] != "gs"):
        raise UserError(f"{given} is remote: expected a local directory{'' if local else ' or gs://BUCKET/...'}")
    place = epath.Path(path)
    # Checkpoints are found by patterns: below such a folder they would be written, and never be read again.
    if _GLOB.search(path if remote else str(place.absolute())):
        raise UserError(f"{given} lies below a folder with one of []*? in its name: rename it, or give another {flag}")
    if not remote:
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        if not existing.is_dir():
            raise UserError(f"{given} cannot be a directory: '{existing}' is a file; give another {flag}")
        return place
    try:
        is_file = place.exists() and not place.is_dir()
    except ImportError as error:
        raise UserError(f"{given} needs the extra gcs: pip install -e '.[gcs]', or give a local directory") from error
    except Exception as error:  # whatever the storage's own client raises: no credentials, no network, no bucket
        why = " ".join(str(error).split()) or type(error).__name__
        raise EnvironmentFault(f"{given} cannot be reached ({why}): check its name and your credentials") from error
    if is_file:
        raise UserError(f"{given} is a file: give a directory")
    return place
