from __future__ import annotations


class UserError(RuntimeError):
    """Something that the user gave does not fit; its message is one sentence that says what to do.

    The tools print the message without a traceback.
    """
