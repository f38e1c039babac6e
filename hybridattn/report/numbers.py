"""How the report writes numbers, one function per quantity, so that every table and sentence agrees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

MISSING = "–"


def kl(value: float | None, stderr: float | None = None) -> str:
    """KL in nats per token: '0.0551 ± 0.0021', the standard error in the mean's own decimals."""
    if value is None:
        return MISSING
    places = _places(value)
    text = _fixed(value, places)
    return text if stderr is None else f"{text} ± {_fixed(stderr, places)}"


def perplexity(value: float | None) -> str:
    """'28.4'; whole numbers from 1000 on."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def size(value: float | None) -> str:
    """Bytes in binary units: '11.2 MiB'."""
    if value is None:
        return MISSING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            break
        value /= 1024
    return (
        f"{value:,.0f} {unit}"
        if unit == "B" or value >= 100 or value == int(value)
        else f"{value:.1f} {unit}"
    )


def seconds(value: float | None) -> str:
    """'14 ms', '1.62 s', '3 min 05 s', '2 h 10 min'."""
    if value is None:
        return MISSING
    if value < 1:
        milli = 1000 * value
        return f"{milli:.3g} ms" if milli < 100 else f"{milli:.0f} ms"
    if value < 99.5:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def times(ratio: float, *ends: float) -> str:
    """A ratio to the teacher, with its range: '1.31× (1.28 to 1.35)'."""
    texts = [f"{x:.2f}" if x < 10 else f"{x:.0f}" for x in (ratio, *ends)]
    return f"{texts[0]}×" + (f" ({texts[1]} to {texts[2]})" if ends else "")


def count(value: int | None) -> str:
    """'40,960'."""
    return MISSING if value is None else f"{value:,}"


def percent(fraction: float) -> str:
    """'69%', one decimal below 10%."""
    value = 100 * fraction
    return f"{value:.0f}%" if abs(value) >= 9.95 or value == 0 else f"{value:.1f}%"


def share(value: float | None, stderr: float | None = None) -> str:
    """'91.3%', with its standard error '91.3% ± 0.4%'."""
    if value is None:
        return MISSING
    return f"{100 * value:.1f}%" + ("" if stderr is None else f" ± {100 * stderr:.1f}%")


def millions(value: int | None) -> str:
    """'134.5 M'."""
    return MISSING if value is None else f"{value / 1e6:,.1f} M"


def score(value: float | None, interval: Sequence[float] | None = None, sign: str = "") -> str:
    """Percent with its 95% interval: '61.5 (58.1 to 64.9)'; sign "+": a difference."""
    if value is None:
        return MISSING
    texts = [f"{x:{sign}.1f}".replace("-", "−") for x in (value, *(interval or ()))]
    return texts[0] + (f" ({texts[1]} to {texts[2]})" if interval else "")


def layers(numbers: Iterable[Any]) -> str:
    """'2, 5 and 9' for prose."""
    items = [str(i) for i in numbers]
    if not items:
        return "none"
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def finite(value: Any) -> float | None:
    """A float that JSON can hold: None for NaN and infinities."""
    value = float(value)
    return value if math.isfinite(value) else None


def finite_list(values: Iterable[Any]) -> list[float | None]:
    """`finite` of each."""
    return [finite(v) for v in values]


def _places(value: float) -> int:
    """Decimals that show three significant digits, between 2 and 6."""
    if value == 0 or not math.isfinite(value):
        return 2
    return min(6, max(2, 2 - math.floor(math.log10(abs(value)))))


def _fixed(value: float, places: int) -> str:
    return f"{value:.{places}f}".replace("-", "−")
