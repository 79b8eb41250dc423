"""Libraries with pools of threads: carried, each computes what a plain run does, time after time. Collected only where
it is named.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

N_RUNS = 20  # a pool that is lost in one run of twenty is not carried
TIMEOUT_S = 120  # arbitrary: far more than any run here takes, so that a hang is a failure

FRAME = """
import os, sys
from magicheap import magic_transaction
with magic_transaction("x.magic"):
    {body}
{behind}
"""


def indented(text):
    return text.strip().replace("\n", "\n    ")


class Programs:
    """A program in a directory of its own, with an empty HOME and cache."""

    def __init__(self, directory):
        self.directory = directory
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith(("MAGICHEAP_", "PYTHON", "PYTEST"))
        }
        self.env |= {"HOME": str(directory), "XDG_CACHE_HOME": str(directory / "cache"), "MAGICHEAP_LOG": "info"}

    def write(self, body, behind=""):
        (self.directory / "program.py").write_text(FRAME.format(body=indented(body), behind=behind.strip()))

    def run(self, how, **env):
        """Return (output, errors, log)."""
        wanted = {name: value for name, value in {**self.env, **env}.items() if value is not None}
        command = [str(Path(sys.executable).with_name(how)), "program.py"]
        ran = subprocess.run(
            command,
            env=wanted,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
        assert ran.returncode == 0, ran
        log = [line for line in ran.stderr.splitlines() if line.startswith("magicheap: ")]
        return ran.stdout, [line for line in ran.stderr.splitlines() if line not in log], log


@pytest.fixture
def programs(tmp_path):
    return Programs(tmp_path)


ARROW = """
import pyarrow as pa, pyarrow.compute as pc, pyarrow.dataset as ds, pyarrow.parquet as pq, pandas as pd
if not os.path.exists("a.parquet"):
    frame = pd.DataFrame({"k": range(20_000), "s": [str(i) for i in range(20_000)]})
    frame.to_parquet("a.parquet", row_group_size=1000)
def work():
    table = ds.dataset("a.parquet").to_table(filter=ds.field("k") > 500)
    groups = pa.table({"a": [1, 2, 1] * 9999, "b": range(29_997)}).group_by("a").aggregate([("b", "sum")])
    total = int(pd.read_parquet("a.parquet").k.sum())
    return total, table.num_rows, pc.sum(table["k"]).as_py(), groups.to_pydict()["b_sum"]
first = work()
"""
ARROW_CSV = """
import pyarrow as pa, pyarrow.csv
with open("a.csv", "w") as file:
    file.write("k,s\\n" + "".join(f"{i},{i}\\n" for i in range(200_000)))
"""
NUMEXPR = """
import numpy as np, numexpr as ne
a = np.arange(1e6)
first = ne.evaluate("sin(a) * 2 + 1").sum()
"""
OPENCV = """
import cv2, numpy as np
image = np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), np.uint8)
def work():
    return [int(made.sum()) for made in (cv2.GaussianBlur(image, (31, 31), 5), cv2.resize(image, (333, 333)),
        cv2.medianBlur(image, 15))]
first = work()
"""
POLARS = """
import polars as pl
def work():
    frame = pl.LazyFrame({"k": list(range(100_000)), "g": [i % 7
        for i in range(100_000)]}).group_by("g").agg(pl.col("k").sum())
    return frame.collect(engine="streaming").sort("g")["k"].to_list(), pl.DataFrame({"k": [1, 2,
        3]}).select(pl.col("k").sum()).item()
"""
TELEMETRY = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
sent = []
class Exporter(SpanExporter):
    def export(self, spans):
        sent.extend(span.name for span in spans)
        with open("sent.txt", "a") as file:
            file.writelines(f"{os.getpid()} {span.name}\\n" for span in spans)
        return SpanExportResult.SUCCESS
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Exporter()))
tracer = provider.get_tracer("t")
"""
SENTRY = """
import sentry_sdk
from sentry_sdk.transport import HttpTransport
sent = []
class Transport(HttpTransport):
    def _send_request(self, body, headers, endpoint_type=None, envelope=None):
        sent.append(envelope is not None)
sentry_sdk.init(dsn="http://a@127.0.0.1:1/1", transport=Transport, default_integrations=False)
sentry_sdk.capture_message("one")
"""
SEARCH = """
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
x = np.random.default_rng(0).random((400, 400))
y = (x[:, 0] > 0.5) * 1
def work():
    return GridSearchCV(SVC(), {"C": [1, 10]}, n_jobs=2, cv=2).fit(x, y).predict(x[:5]).tolist()
first = work()
"""
MODEL = """
import onnxruntime
def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data
def number(field, value):
    return bytes([field << 3, value])
shape = field(1, number(1, 1) + field(2, field(1, number(1, 3))))  # of TypeProto, in onnx.proto: three floats
graph = field(1, field(1, b"x") + field(2, b"y") + field(4, b"Neg")) + field(2, b"g")
graph += field(11, field(1, b"x") + field(2, shape)) + field(12, field(1, b"y") + field(2, shape))
model = number(1, 8) + field(7, graph) + field(8, number(2, 13))
def work(session):
    import numpy
    return session.run(None, {"x": numpy.ones(3, numpy.float32)})[0].tolist()
"""
ONE_THREAD = """
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
"""
TWO_THREADS = ONE_THREAD.replace("= 1", "= 2")
TOKENIZERS = """
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.train_from_iterator(["a text of some words"] * 1000, trainers.BpeTrainer(show_progress=False))
"""
DUCKDB = """
import duckdb
connection = duckdb.connect()
connection.execute("create table t as select range as k from range(100000)")
"""
QUERY = 'print(duckdb.sql("select sum(range) from range(100000)").fetchall())'

SLOW_FILE = f"""
{ARROW_CSV}
import io, threading
pa.enable_signal_handlers(False)
held = threading.Event()
class Slow(io.FileIO):
    def read(self, *size):
        if self.tell() > 1 << 16: held.wait()
        return super().read(*size)
reader = pyarrow.csv.open_csv(Slow("a.csv"), read_options=pyarrow.csv.ReadOptions(block_size=1 << 16))
n_rows = reader.read_next_batch().num_rows
"""
CARRIED = {
    "pyarrow": (ARROW, "print(first == work(), work())"),
    "pyarrow-reader-half-read": (
        (
            f"{ARROW_CSV}\npa.enable_signal_handlers(False)\nreader = pyarrow.csv.open_csv('a.csv')\n"
            "n_rows = reader.read_next_batch().num_rows"
        ),
        "print(n_rows, n_rows + sum(batch.num_rows for batch in reader))",
    ),
    "polars": (POLARS, "print(work())"),
    "numexpr": (NUMEXPR, "print(ne.evaluate('sin(a) * 2 + 1').sum() == first, ne.get_num_threads(), ne.nthreads)"),
    "numexpr-chosen": (f"{NUMEXPR}\nne.set_num_threads(3)", "print(ne.evaluate('a * 2').sum(), ne.get_num_threads())"),
    "pandas-with-numexpr": (
        (
            "import numexpr, pandas as pd\nframe = pd.DataFrame({'a': range(300_000), 'b': 1})\n"
            "n = frame.eval('a + b').sum()"
        ),
        "print(n, frame.eval('a * 2 + b').sum(), (frame.a + frame.b).sum())",
    ),
    "opencv": (OPENCV, "print(work() == first, first, cv2.getNumThreads())"),
    "opencv-chosen": (f"{OPENCV}\ncv2.setNumThreads(3)\nwork()", "print(work(), cv2.getNumThreads())"),
    "sentry": (SENTRY, 'sentry_sdk.capture_message("two")\nsentry_sdk.flush(20)\nprint(sent)'),
    "joblib": (SEARCH, "print(first, work(), work())"),
    "onnxruntime": (
        f"{MODEL}\n{ONE_THREAD}\nsession = onnxruntime.InferenceSession(model, options)",
        "print(work(session), onnxruntime.get_device())",
    ),
    "onnxruntime-session-behind": (MODEL, "print(work(onnxruntime.InferenceSession(model)))"),
    "pyarrow-csv": (
        f"{ARROW_CSV}\nn = pyarrow.csv.read_csv('a.csv').num_rows",
        "print(n, pyarrow.csv.read_csv('a.csv').num_rows)",
    ),
    "pyarrow-at-work": (SLOW_FILE, "held.set(); print(n_rows + sum(batch.num_rows for batch in reader))"),
    "polars-with-threads": (f"{POLARS}\nfirst = work()", "print(first == work(), work())"),
    "onnxruntime-with-threads": (
        f"{MODEL}\n{TWO_THREADS}\nsession = onnxruntime.InferenceSession(model, options)\nfirst = work(session)",
        "print(first, work(session))",
    ),
    "duckdb-with-threads": (
        DUCKDB,
        "print(connection.execute('select sum(k), count(*) from t where k % 3 = 0').fetchall())",
    ),
    "opentelemetry": (
        f"{TELEMETRY}\nfor i in range(3): tracer.start_span('body' + str(i)).end()",
        "for i in range(2): tracer.start_span('behind' + str(i)).end()\nprovider.force_flush()\nprint(sent)",
    ),
    "sentry-at-work": (
        SENTRY.replace("        sent.append", "        import time; time.sleep(1)\n        sent.append"),
        "sentry_sdk.flush(20); print(sent)",
    ),
    "tokenizers": (
        f"os.environ['TOKENIZERS_PARALLELISM'] = 'true'\n{TOKENIZERS}",
        "print(tokenizer.get_vocab_size(), sum(len(each) for each in tokenizer.encode_batch(['a text'] * 99)))",
    ),
    "catboost": (
        (
            "import numpy as np, catboost\nx = np.arange(4000.0).reshape(1000, 4); y = x[:, 0] % 3\n"
            "model = catboost.CatBoostRegressor(iterations=10, verbose=0, allow_writing_files=False,"
            " random_seed=1).fit(x, y)"
        ),
        "print(model.predict(x[:5]).tolist())",
    ),
    "grpc": (
        "import grpc\nchannel = grpc.insecure_channel('localhost:1')",
        (
            "try: grpc.channel_ready_future(channel).result(timeout=0.2)\n"
            "except grpc.FutureTimeoutError: print('nobody')"
        ),
    ),
    "lmdb": (
        (
            "import lmdb\nif not os.path.exists('db'):\n"
            "    with lmdb.open('db') as made, made.begin(write=True) as writing: writing.put(b'k', b'v')\n"
            "data = lmdb.open('db', readonly=True, lock=False)"
        ),
        "with data.begin() as reading: print(reading.get(b'k'))",
    ),
    "duckdb": ("import duckdb", QUERY),
    "duckdb-closed": (f"{DUCKDB}\nconnection.close()", QUERY),
}


@pytest.mark.parametrize("name", CARRIED)
def test_resumed_process_computes_what_a_plain_one_does(programs, name):
    programs.write(*CARRIED[name])
    plain, _, _ = programs.run("python", MAGICHEAP_DISABLE="1")
    cold, errors, log = programs.run("python")
    assert cold == plain and not any("was not made" in line for line in errors), errors
    assert any(" committed " in line for line in log), log
    for _ in range(N_RUNS):
        warm, errors, log = programs.run("magic")
        assert (warm, errors) == (plain, [])
        assert any(" warm: " in line for line in log), log


def test_a_pool_of_processes_at_work_is_refused_by_name(programs):
    programs.write(
        "import joblib\nparallel = joblib.Parallel(n_jobs=2).__enter__()\n"
        "first = parallel(joblib.delayed(abs)(-i) for i in range(4))",
        "print(first, parallel(joblib.delayed(abs)(-i) for i in range(4))); parallel.__exit__(None, None, None)",
    )
    plain, _, _ = programs.run("python", MAGICHEAP_DISABLE="1")
    out, errors, _ = programs.run("python")
    text = "\n".join(errors)
    assert out == plain and text.count("MagicHeapWarning") == 1 and "child process" in text, text
