"""What the audit of a commit found: pointers that leave the arena, and who made the blocks that hold them."""

from __future__ import annotations

from typing import Any, NamedTuple

from magicheap._native import ffi, lib

_TARGETS = {
    lib.MH_TARGET_HEAP: "the ordinary heap",
    lib.MH_TARGET_STACK: "a stack",
    lib.MH_TARGET_MAPPING: "a mapping",
    lib.MH_TARGET_ARENA: "another arena",
}
_N_SHOWN = 5  # findings in a warning: arbitrary; usually one library is to blame
_MAX_OWNERS = 127  # as many as the native routing tells apart


class Finding(NamedTuple):
    """A pointer that a later run could not follow."""

    block: int  # address of the block that holds it
    block_bytes: int
    offset: int  # of the pointer in the block
    value: int  # the address that it holds
    owner: str  # path of the library that allocated the block, or ""
    target: str  # what it points at
    target_name: str  # the mapping it points into, as /proc/self/maps names it

    def __str__(self) -> str:
        name = f" ({self.target_name})" if self.target_name else ""
        return (
            f"block {self.block:#x} of {self.block_bytes} bytes, allocated by {self.owner or 'an explicit call'}: "
            f"offset {self.offset} holds {self.value:#x}, in {self.target}{name}"
        )


class Owner(NamedTuple):
    """The share of one library in the arena."""

    name: str  # path of the library, or "" for explicit calls
    blocks: int
    size_bytes: int


class AuditResult(NamedTuple):
    """What mh_commit read and found; sizes in bytes."""

    live_blocks: int
    scanned_bytes: int  # read as possible pointers
    data_bytes: int  # known to hold none
    relocations: int  # pointers into libraries, fixed at every attach
    n_findings: int
    litter_blocks: int  # live blocks that no pointer leads to
    findings: tuple[Finding, ...]  # the first of them
    owners: tuple[Owner, ...]  # largest first

    def describe(self) -> str:
        """Return the first findings as indented lines."""
        lines = [f"\n  {finding}" for finding in self.findings[:_N_SHOWN]]
        if self.n_findings > len(lines):
            lines.append(f"\n  and {self.n_findings - len(lines)} more")
        return "".join(lines)


def read_audit(tx: Any) -> AuditResult:
    """Read the audit of an `mh_transaction *` whose commit has run."""
    summary = ffi.new("mh_audit_summary *")
    lib.mh_read_audit(tx, summary)
    return AuditResult(
        summary.live_blocks,
        summary.scanned_bytes,
        summary.data_bytes,
        summary.relocations,
        summary.findings,
        summary.litter_blocks,
        tuple(_read_findings(tx)),
        tuple(_read_owners(lib.mh_transaction_arena(tx))),
    )


def _read_findings(tx: Any) -> list[Finding]:
    found: list[Finding] = []
    finding = ffi.new("mh_finding *")
    while lib.mh_read_finding(tx, len(found), finding) == lib.MH_OK:
        found.append(
            Finding(
                finding.block,
                finding.block_bytes,
                finding.offset,
                finding.value,
                _text(finding.owner),
                _TARGETS.get(finding.target, "unknown memory"),
                _text(finding.target_name),
            )
        )
    return found


def _read_owners(arena: Any) -> list[Owner]:
    if arena == ffi.NULL:
        return []
    owners = ffi.new("mh_owner[]", _MAX_OWNERS)
    n_owners = min(lib.mh_read_owners(arena, owners, _MAX_OWNERS), _MAX_OWNERS)
    return [Owner(_text(owners[i].name), owners[i].blocks, owners[i].bytes) for i in range(n_owners)]


def _text(chars: Any) -> str:
    text: str = ffi.string(chars).decode(errors="replace")
    return text
