"""One copy of the heap, however many processes have it, and while it is committed too."""

import json

from magicheap._processes import processes_using

N_PROCESSES = 10
ARRAY_BYTES = 32 << 20

STAYS = f"""
    import sys
    import numpy
    from magicheap import magic_transaction
    with magic_transaction("x.magic", process=False) as magic:
        if not magic.was_committed:
            magic.root = numpy.ones({ARRAY_BYTES} // 8)
    print(magic.root.sum(), magic.was_committed, flush=True)
    sys.stdin.readline()
"""


def test_warm_processes_share_their_memory(program, tmp_path):
    stays = program(STAYS)
    with stays.start() as cold:
        cold.communicate("\n", timeout=60)
    processes = [stays.start() for _ in range(N_PROCESSES)]
    try:
        for process in processes:
            assert process.stdout.readline().split()[1] == "True"
        uses = processes_using(str(tmp_path / "x.magic"))
    finally:
        for process in processes:
            process.communicate("\n", timeout=60)
    assert {use.pid for use in uses} == {process.pid for process in processes}
    assert all(use.resident_bytes >= ARRAY_BYTES for use in uses), "each has read all of it"
    assert all(use.private_bytes < 1 << 20 for use in uses)
    assert sum(use.proportional_bytes for use in uses) < 1.2 * max(use.resident_bytes for use in uses)


def test_a_writer_pays_only_for_the_pages_it_writes(program, tmp_path):
    writes = program(STAYS.replace("sys.stdin", "magic.root[: 1 << 17] += 1; print('wrote', flush=True); sys.stdin"))
    with writes.start() as cold:
        cold.communicate("\n", timeout=60)
    with writes.start() as warm:
        assert warm.stdout.readline() and warm.stdout.readline() == "wrote\n"
        (use,) = processes_using(str(tmp_path / "x.magic"))
        warm.communicate("\n", timeout=60)
    assert 1 << 20 <= use.private_bytes < 2 << 20


def test_a_commit_needs_no_second_copy_of_the_heap(program):
    peak = program(f"""
        import json, resource, sys
        import numpy
        from magicheap import magic_transaction
        with magic_transaction("x.magic", process=False) as magic:
            magic.root = numpy.ones({8 * ARRAY_BYTES} // 8)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        assert magic.committed
        print(json.dumps([before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
    """)
    before, after = json.loads(peak.run()[0])
    assert before > 8 * ARRAY_BYTES
    assert after - before < ARRAY_BYTES
