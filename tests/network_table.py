"""Write the README's table of networks from the table of networks.

``python tests/network_table.py`` writes it again; a test says when that is needed.
"""

from __future__ import annotations

from pathlib import Path

from neurometamer.zoo import MODELS

README = Path(__file__).resolve().parents[1] / "README.md"
START = "<!-- networks: written by python tests/network_table.py -->\n"
END = "<!-- end of networks -->\n"


def network_table() -> str:
    """Make the table, in Markdown.

    Returns
    -------
    str
        One row a network.
    """
    lines = [
        "| name | network | parameters | px | training | stages | papers |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, entry in MODELS.items():
        count = f"{entry.parameters:,}" if entry.parameters else ""
        training = " ".join(dict.fromkeys([entry.training, entry.threat, entry.epsilon])).strip()
        if not entry.has_classes:
            training += ", no classes"
        size = entry.preprocessing.size[0]
        cells = [f"`{name}`", entry.title, count, size, training, len(entry.stages)]
        cells.append(entry.reference)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """Put the table into the README.

    Parameters
    ----------
    text : str
        Of the README.

    Returns
    -------
    str
        The same, with the table as it is now.
    """
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{network_table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
