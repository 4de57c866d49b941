"""Checks of messages that survive a better wording: only their parts are asserted."""


def says(message: object, *parts: object) -> None:
    """Assert that a message names each part: the path, the value found, the command to run.

    Case and line breaks do not matter, since messages are wrapped to the terminal.

    Args:
        message: an exception, or the text of a message.
        parts: what has to be in it: paths, values, keys, names, commands. No prose, which a better
            wording would change.
    """
    text = _plain(message)
    missing = [str(part) for part in parts if _plain(part) not in text]
    assert not missing, f"The message does not name {missing}:\n{message}"


def _plain(text: object) -> str:
    return " ".join(str(text).split()).casefold()
