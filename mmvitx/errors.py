from __future__ import annotations


class UserError(RuntimeError):
    """Something that the user gave does not fit; its message is one sentence that says what to do.

    The tools print the message without a traceback.
    """


def first_line(error: BaseException) -> str:
    """Give the first line of an error's message, or the error's name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
