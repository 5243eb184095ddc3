"""The page of an audit: verdicts, rates before and after a patch, associations, the neurons behind the attacks."""

from decompose.pages.attack import carrier_text
from decompose.pages.fragment import render_fragment
from decompose.studies.audit_report import AuditReport
from decompose.studies.rates import percent

AUDIT_PAGE = "audit"


def audit_page(found: AuditReport) -> str:
    """The HTML of the page."""
    patched = {row["measure"]: row for row in found.patched}
    untrained = {row["measure"]: row for row in found.untrained}
    texts = {(row["test"], row["space"]): row for row in found.associations_patched}
    return render_fragment(
        "audit.html",
        found=found,
        patched=patched,
        untrained=untrained,
        texts=texts,
        percent=percent,
        carried=carrier_text,
    )
