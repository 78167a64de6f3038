"""Write colours.json beside this file: 256 colours a map, for the page and for the PNG snapshot alike.

    python -m blendlab.board.make_colours

The colours are read from matplotlib once, here, so that no explorer imports it.
"""

import json
from pathlib import Path

from matplotlib import colormaps

# name here -> matplotlib's name; "diverging" is blue below 0, white at 0, red above: no red stands against a green
MAPS = {"magnitude": "cividis", "diverging": "RdBu_r"}

table = {
    name: "".join(f"{round(255 * c):02x}" for i in range(256) for c in colormaps[source](i)[:3])
    for name, source in MAPS.items()
}
target = Path(__file__).with_name("colours.json")
target.write_text(json.dumps(table, indent=1) + "\n")
print(f"{target.name}: {', '.join(table)}")
