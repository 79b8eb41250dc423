"""What resumes.py resumes: prints as JSON one value of each source of randomness that a process snapshot may not
repeat."""

import json
import sys

from resuming import resume_after


def values():
    import os
    import random
    import secrets
    import ssl
    import tempfile
    import uuid

    import numpy

    return {
        "random": random.getrandbits(128),
        "random.Random": random.Random().getrandbits(128),
        "random.SystemRandom": random.SystemRandom().getrandbits(128),
        "numpy.random": numpy.random.bytes(16).hex(),
        "numpy.random.default_rng": numpy.random.default_rng().bytes(16).hex(),
        "ssl": ssl.RAND_bytes(16).hex(),
        "uuid1": str(uuid.uuid1()),
        "uuid4": str(uuid.uuid4()),
        "secrets": secrets.token_hex(),
        "tempfile": next(vars(tempfile)["_get_candidate_names"]()),
        "os.urandom": os.urandom(16).hex(),
    }


if __name__ == "__main__":
    resume_after("json numpy random secrets ssl tempfile uuid".split(), use=values)
    json.dump(values(), sys.stdout)
