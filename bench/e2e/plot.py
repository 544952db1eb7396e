"""Results as a picture: a small bar chart for each column, as SVG."""

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from bench.e2e.figures import COLUMNS, Column
from bench.e2e.report import Result, median, peers

_ACROSS = 3  # charts in a row
_WIDTH, _BAR, _GAP, _HEAD = 340, 14, 4, 30
_LABEL, _VALUE = 95, 60  # pixels left and right of the bars
_OURS, _RIVAL, _LIMIT = "#c2410c", "#475569", "#cbd5e1"


def svg(results: Sequence[Result], ours: str = "softlan") -> str:
    """Draw the medians of every column that was measured; peers that do not authenticate are pale."""
    names = peers(results)
    authenticated = {result.peer for result in results if result.authenticated}
    charts = [column for column in COLUMNS if any(median(results, name, column) is not None for name in names)]
    height = _HEAD + len(names) * (_BAR + _GAP) + 20
    rows = -(-len(charts) // _ACROSS)
    size = f'width="{_WIDTH * min(_ACROSS, len(charts))}" height="{rows * height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, column in enumerate(charts):
        x, y = number % _ACROSS * _WIDTH, number // _ACROSS * height
        lines.append(f'<g transform="translate({x},{y})">')
        lines += _chart(column, [(name, median(results, name, column)) for name in names], authenticated, ours)
        lines.append("</g>")
    return "\n".join((*lines, "</svg>", ""))


def _chart(
    column: Column, figures: Sequence[tuple[str, float | None]], authenticated: set[str], ours: str
) -> Iterable[str]:
    better = "more is better" if column.higher_is_better else "less is better"
    yield f'<text x="8" y="18" font-weight="bold">{escape(column.title)}</text>'
    yield f'<text x="{_WIDTH - 12}" y="18" fill="#64748b" font-size="9" text-anchor="end">{better}</text>'
    largest = max((value for _, value in figures if value is not None), default=0.0) or 1.0
    room = _WIDTH - _LABEL - _VALUE
    for number, (name, value) in enumerate(figures):
        top = _HEAD + number * (_BAR + _GAP)
        yield f'<text x="{_LABEL - 6}" y="{top + 11}" text-anchor="end">{escape(name)}</text>'
        if value is None:
            continue
        color = _OURS if name == ours else _RIVAL if name in authenticated else _LIMIT
        width = value / largest * room
        yield f'<rect x="{_LABEL}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{color}"/>'
        yield f'<text x="{_LABEL + width + 4:.1f}" y="{top + 11}">{value:.{column.digits}f}</text>'
