"""Ask questions about a table of a million rows, kept by pandas in pyarrow's columns.

magic examples/pandas_pyarrow.py Oslo Lima
"""

import sys

from magicheap import magic_transaction

with magic_transaction():
    import numpy as np
    import pandas as pd

    print("making the table", file=sys.stderr)
    random = np.random.default_rng(1)
    n_rows, cities = 1_000_000, np.array(["Cairo", "Lima", "Oslo", "Pune"])
    weather = pd.DataFrame({"city": random.choice(cities, n_rows), "celsius": random.normal(15, 9, n_rows)})
    weather = weather.convert_dtypes(dtype_backend="pyarrow")

for city in sys.argv[1:]:
    days = weather[weather["city"] == city]
    print(f"{city}: {len(days)} days, {days['celsius'].mean():.3f} degrees on average")
