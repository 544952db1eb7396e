"""The errors that a person may meet. Each reads as one line that says what to do.

A bad frame is never one of these: it is a `softlan.proto.drop.DropReason`, counted where it was found.
"""


class SoftlanError(Exception):
    """Base of every error that softlan raises on purpose; `str(error)` is one line for a person."""


class UsageError(SoftlanError):
    """What we were told to do makes no sense (a flag, a file, a value). Exit status 2."""


class RemoteError(SoftlanError):
    """The other side refused or broke the protocol. Exit status 3 where it cannot heal.

    `code` is a reject code or close reason of the protocol, such as ``bad_room``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HostError(SoftlanError):
    """This machine could not do what was asked (no privilege, no interface, a port in use). Exit status 1.

    `stage` names what was being done, such as ``open interface``.
    """

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
