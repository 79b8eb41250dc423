"""What cpython.py resumes: regrtest and much of the standard library, then the test files named on the command line."""

import sys

from resuming import resume_after

# Not sqlite3: as it is loaded it asks for TMPDIR, and each run here has another.
LOADED = """
    argparse array asyncio base64 bz2 collections.abc concurrent.futures contextlib csv ctypes dataclasses datetime
    decimal difflib email.message enum fractions functools gzip hashlib heapq hmac http.client http.server inspect io
    itertools json logging.handlers lzma math multiprocessing.pool operator pathlib pickle platform pprint queue
    random re select selectors shutil signal socket socketserver ssl statistics string struct subprocess tarfile
    tempfile textwrap threading time traceback types typing unittest.mock urllib.request uuid weakref
    xml.etree.ElementTree zipfile zlib zoneinfo test.libregrtest.main test.support.script_helper
    test.support.socket_helper test.support.threading_helper
""".split()

if __name__ == "__main__":  # multiprocessing's children import this file too
    resume_after(LOADED)
    sys.modules["test.libregrtest.main"].main()
