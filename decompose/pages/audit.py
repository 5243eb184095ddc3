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
    share = {row["measure"]: percent(row["share"]) for row in found.measures}
    said = (
        f"A text that names another class wins on {share['attacks that succeed']} % of the images, nonsense letters on "
        f"{share['nonsense letters that succeed']} %; {share['right answers that text makes wrong']} % of the right "
        f"answers become wrong with a text, {share['right answers that nonsense letters make wrong']} % with nonsense."
    )
    return render_fragment(
        "audit.html",
        found=found,
        said=said,
        patched=patched,
        untrained=untrained,
        texts=texts,
        percent=percent,
        carried=carrier_text,
    )
