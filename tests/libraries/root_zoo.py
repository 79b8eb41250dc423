"""Objects of large libraries, made at random from a seed, and what it means that one came back as it was.

Each of ZOO is (name, make): make(rng) returns something to keep and a function that returns what it says of itself, to
be compared by repr or, of arrays, bit by bit.
"""

import datetime

import numpy


def _ints(rng, n, high=10):
    return [int(i) for i in rng.integers(0, high, n)]


def pandas_frames(rng):
    import pandas

    n = int(rng.integers(0, 40))
    frame = pandas.DataFrame(
        {
            "float": rng.random(n),
            "other": rng.random(n),
            "int": rng.integers(0, 9, n),
            "text": [f"text {i}" for i in _ints(rng, n)],
            "kind": pandas.Categorical([f"kind {i}" for i in _ints(rng, n, 3)]),
            "time": pandas.Timestamp("2020-01-01", tz="Europe/Oslo") + pandas.to_timedelta(_ints(rng, n), "D"),
            "nullable": pandas.array([None if i == 0 else i for i in _ints(rng, n, 4)], "Int64"),
            "object": [[i] if i % 2 else None for i in _ints(rng, n)],
            "period": pandas.period_range("2020", periods=n, freq="M"),
            "sparse": pandas.arrays.SparseArray(rng.integers(0, 2, n)),
            "interval": pandas.interval_range(0, periods=n) if n else pandas.IntervalIndex.from_breaks([0]),
            "half": rng.random(n).astype("f2"),
            "flag": rng.random(n) > 0.5,
        }
    )
    parts = [
        frame,
        frame.iloc[::2, ::2],
        frame.iloc[::-1],
        frame[["float", "other"]].T,
        frame["float"],
        frame["text"],
        frame.index,
    ]
    parts += [frame.set_index(["int", "text"]), frame.describe(), frame.groupby("int", observed=True)["float"].sum()]
    parts += [
        frame["float"].to_numpy()[::3],
        pandas.DataFrame(rng.random((6, 4)), columns=list("abcd")).loc[:, "b":"c"],
    ]
    return parts


def pandas_say(parts):
    import pandas

    told: list[object] = []
    for part in parts:
        if isinstance(part, pandas.DataFrame):
            told.append(
                (type(part), list(part.dtypes), part.index.tolist(), part.columns.tolist(), part.to_dict("list"))
            )
            told += [
                part[name].to_numpy().tobytes()
                for name in part.columns
                if part[name].dtype.kind in "fiub" and part[name].dtype != "Int64"
            ]
        else:
            told.append((type(part), getattr(part, "dtype", None), part.tolist()))
    return told


def sparse_matrices(rng):
    from scipy import sparse

    matrix = sparse.random(int(rng.integers(1, 30)), int(rng.integers(1, 30)), 0.2, "csr", random_state=rng, dtype="f8")
    parts = [matrix.asformat(form) for form in ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")]
    parts += [
        sparse.csr_array(matrix),
        sparse.coo_array(matrix),
        matrix[::2],
        matrix[:, ::-1],
        matrix.T,
        matrix.tocsc().indices,
        matrix.data,
    ]
    return parts


def sparse_say(parts):
    return [
        part.tobytes()
        if isinstance(part, numpy.ndarray)
        else (type(part), part.shape, part.nnz, part.toarray().tobytes())
        for part in parts
    ]


def spatial_trees(rng):
    from scipy import spatial

    points = rng.random((int(rng.integers(5, 300)), 3))
    return [spatial.cKDTree(points), spatial.KDTree(points[::2], leafsize=4), points]


def spatial_say(parts):
    trees = parts[:2]
    return [array.tobytes() for tree in trees for array in tree.query(parts[2] * 0.9, k=3)]


def polars_frames(rng):
    import polars

    n = int(rng.integers(1, 40))
    frame = polars.DataFrame(
        {
            "float": rng.random(n),
            "int": _ints(rng, n),
            "text": [f"text {i}" if i else None for i in _ints(rng, n)],
            "list": [_ints(rng, i) for i in _ints(rng, n, 4)],
            "struct": [{"a": i, "b": str(i)} for i in _ints(rng, n)],
            "day": [datetime.date(2020, 1, 1 + i) for i in _ints(rng, n)],
        }
    )
    frame = frame.with_columns(polars.col("text").cast(polars.Categorical).alias("kind"))
    return [
        frame,
        frame[1::2],
        frame["float"],
        frame["list"].slice(1),
        frame.select("int", "text").reverse(),
        frame.lazy(),
    ]


def polars_say(parts):
    import polars

    return [
        (type(part), str(getattr(part, "schema", "")), part.to_list())
        if isinstance(part, polars.Series)
        else (type(part), part.lazy().collect().rows())
        for part in parts
    ]


def arrow_tables(rng):
    import pyarrow

    n = int(rng.integers(1, 60))
    table = pyarrow.table(
        {
            "float": rng.random(n),
            "int": pyarrow.array([None if i == 0 else i for i in _ints(rng, n)]),
            "text": [f"text {i}" for i in _ints(rng, n)],
            "list": pyarrow.array([_ints(rng, i) for i in _ints(rng, n, 4)]),
            "kind": pyarrow.array([f"kind {i}" for i in _ints(rng, n, 3)]).dictionary_encode(),
            "flag": rng.random(n) > 0.5,
        }
    )
    chunks = pyarrow.concat_tables([table, table.slice(n // 2), table.slice(0, n // 3)])
    return [
        table,
        chunks,
        table.slice(n // 3),
        table["text"],
        table["float"].chunk(0)[::1],
        table.to_batches()[0],
        pyarrow.py_buffer(b"bytes" * n),
    ]


def arrow_say(parts):
    return [
        (type(part), getattr(part, "schema", getattr(part, "type", None)), part.to_pylist()) for part in parts[:-1]
    ] + [bytes(parts[-1])]


def masked_and_others(rng):
    record = numpy.rec.array(
        [(i, float(i), f"{i}") for i in _ints(rng, 20)], dtype=[("a", "i4"), ("b", "f8"), ("c", "U3")]
    )
    masked = numpy.ma.masked_less(rng.random((5, 6)), 0.4)
    text = (
        numpy.array(["one", "twenty-two " * 9, ""], numpy.dtypes.StringDType())
        if hasattr(numpy.dtypes, "StringDType")
        else numpy.array(["a"])
    )
    poly = numpy.polynomial.Polynomial(rng.random(4))
    return [
        record,
        record[::2],
        record.b,
        masked,
        masked.T[::2],
        numpy.asmatrix(rng.random((3, 4))),
        text,
        poly,
        numpy.random.default_rng(3),
    ]


def masked_say(parts):
    *parts, generator = parts
    return [repr(getattr(part, "tolist", lambda part=part: part)()) for part in parts] + [generator.bit_generator.state]


def dates_and_offsets(rng):
    import pandas

    index = pandas.MultiIndex.from_product(
        [["a", "b"], pandas.date_range("2020", periods=3), range(int(rng.integers(1, 4)))]
    )
    series = pandas.Series(rng.random(len(index)), index)
    return [index, series, series.unstack(), series.index.levels[1], pandas.offsets.BusinessDay(3), pandas.NaT]


def dates_say(parts):
    return [repr(part) for part in parts] + [parts[1].to_numpy().tobytes()]


ZOO = {
    "pandas": (pandas_frames, pandas_say),
    "pandas dates": (dates_and_offsets, dates_say),
    "scipy.sparse": (sparse_matrices, sparse_say),
    "scipy.spatial": (spatial_trees, spatial_say),
    "polars": (polars_frames, polars_say),
    "pyarrow": (arrow_tables, arrow_say),
    "numpy": (masked_and_others, masked_say),
}


def make(name, seed):
    return ZOO[name][0](numpy.random.default_rng(seed))


def say(name, parts):
    return repr(ZOO[name][1](parts))
