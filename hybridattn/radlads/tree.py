"""The order in which the gradients of a step's parts are added up: a binary tree over parts of the step, not
over ranks, so that any number of ranks gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Node = tuple[int, int]  # leaves [first, stop)
Value = TypeVar("Value")


def halves(node: Node) -> tuple[Node, Node]:
    """The children of a node of two leaves or more."""
    first, stop = node
    middle = (first + stop) // 2
    return (first, middle), (middle, stop)


def share(leaves: int, rank: int, size: int) -> Node:
    """The leaves of a rank, which may be none."""
    return leaves * rank // size, leaves * (rank + 1) // size


def cover(root: Node, part: Node) -> list[Node]:
    """The fewest nodes below `root` that hold the leaves of `part`, from left to right."""
    if part[0] <= root[0] and root[1] <= part[1]:
        return [root]
    if root[1] <= part[0] or part[1] <= root[0]:
        return []
    return [node for half in halves(root) for node in cover(half, part)]


def fold(node: Node, known: Callable[[Node], Value | None], add: Callable[[Value, Value], Value]) -> Value:
    """The sum of a node: what `known` gives for it, else add(left, right) of its halves."""
    value = known(node)
    if value is not None:
        return value
    left, right = halves(node)
    return add(fold(left, known, add), fold(right, known, add))
