"""The audit at the commit, as a Python program meets it: a refusal that names names, or a warning."""

import pytest

DANGLES = """
    import sys
    from llama._kernels import ffi, lib
    from magicheap import magic_transaction

    OUTSIDE = ffi.new("char[]", 4096)  # belongs to Python, on the ordinary heap

    with magic_transaction("x.magic", process=False, audit=sys.argv[1]) as magic:
        if not magic.was_committed:
            out = ffi.new("mk_model **")
            sizes = dict(n_layers=1, dim=32, n_heads=1, n_kv_heads=1, head_dim=32, ffn_dim=32, n_vocab=8,
                rope_theta=1e4)
            config = ffi.new("mk_config *", sizes)
            assert lib.mk_model_new(out, config) == lib.MK_OK
            magic.root = out[0]
            if "sound" not in sys.argv:
                magic.root.tokens[3].bytes = ffi.cast("char *", OUTSIDE)
    audit = magic.audit
    if audit:
        print(magic.committed, audit.n_findings, audit.live_blocks > 2,
            *(found.owner.split("/")[-1] for found in audit.findings))
    else:
        print(magic.was_committed, magic.root.config.n_vocab)
"""


def test_a_pointer_out_of_the_arena_refuses_the_commit_and_names_who(program, tmp_path):
    out, err = program(DANGLES).run("refuse")
    committed, n_findings, has_blocks, owner = out.split()
    assert (committed, n_findings, has_blocks) == ("False", "1", "True")
    assert owner.startswith("_kernels")
    assert err.count("MagicHeapWarning") == 1
    assert "was not made" in err and "allocated by" in err and owner in err and "holds 0x" in err
    assert not (tmp_path / "x.magic").exists()


def test_the_same_with_warn_commits_and_says_so(program):
    dangles = program(DANGLES)
    out, err = dangles.run("warn")
    assert out.split()[:2] == ["True", "1"]
    assert err.count("MagicHeapWarning") == 1 and "must not follow" in err
    assert dangles("warn") == ["True", "8"]


def test_the_same_without_the_pointer_is_committed(program):
    sound = program(DANGLES)
    assert sound("refuse", "sound") == ["True", "0", "True"]
    assert sound("refuse", "sound") == ["True", "8"]


@pytest.mark.parametrize("when", ["before", "inside"])
def test_numpy_sentencepiece_and_lxml_are_committed_and_go_on_working(program, when):
    libraries = program("""
        import io, sys
        from magicheap import magic_transaction
        if sys.argv[1] == "before":
            import numpy, sentencepiece, lxml.etree
        WORDS = [f"word number {i} of the corpus of {i % 7} words" for i in range(500)]

        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                import numpy, sentencepiece, lxml.etree
                trained = io.BytesIO()
                sentencepiece.SentencePieceTrainer.train(
                    sentence_iterator=iter(WORDS), model_writer=trained, vocab_size=60, minloglevel=2)
                pieces = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
                document = lxml.etree.fromstring("<a>" + "<b c='d'>text</b>" * 1000 + "</a>")
                ids = [numpy.array(pieces.encode(line)) for line in WORDS]
                magic.root = {"ids": ids, "count": numpy.array(len(document)), "sum": sum(map(sum, ids))}
        if not magic.was_committed:  # all of this lies in the sealed arena
            assert pieces.decode(pieces.encode(WORDS[3])) == WORDS[3]
            for element in document:
                element.text += " and more"
                element.append(lxml.etree.SubElement(element, "e"))
            assert len(lxml.etree.tostring(document)) > 20_000
            del document, pieces
        print(magic.was_committed, len(magic.root["ids"]), int(magic.root["count"]),
              sum(int(ids.sum()) for ids in magic.root["ids"]) == magic.root["sum"])
    """)
    assert libraries(when) == ["False", "500", "1000", "True"]
    assert libraries(when) == ["True", "500", "1000", "True"]
