"""What numpy_suite.py resumes: numpy with all that its tests use, then pytest with the arguments of the command line.

pytest is imported after the resume: in a process that holds it, a transaction neither commits nor resumes.
"""

import sys

from resuming import resume_after

LOADED = """
    numpy numpy.ctypeslib numpy.fft numpy.lib.recfunctions numpy.lib.stride_tricks numpy.linalg numpy.ma
    numpy.polynomial numpy.random numpy.testing numpy.typing
""".split()


def multiply():
    """Wake the threads of OpenBLAS."""
    numpy = sys.modules["numpy"]
    numpy.ones((500, 500)) @ numpy.ones((500, 500))


if __name__ == "__main__":  # multiprocessing's children import this file too
    resume_after(LOADED, use=multiply)
    import pytest

    sys.exit(pytest.main())
