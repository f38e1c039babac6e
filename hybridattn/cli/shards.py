"""The --shard option: one part of work that several processes share through a folder."""

from __future__ import annotations

import argparse

UNFINISHED = 75  # exit status: a shard is done, others are not (EX_TEMPFAIL of sysexits.h)


def shard(text: str) -> tuple[int, int]:
    """'0/2' -> (0, 2), for argparse."""
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shard like 0/2") from None
    return index, count
