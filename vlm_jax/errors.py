"""The errors that a person is meant to read: one line, what was given, what was expected, what mends it."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or usage. The command line prints the message alone and exits with `exit_code`."""

    exit_code = 2


class EnvironmentFault(UserError):
    """The machine failed, not the user: a full disk, a vanished mount, a lost peer. Exit code 1."""

    exit_code = 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device's memory, or the machine's, did not suffice."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()
