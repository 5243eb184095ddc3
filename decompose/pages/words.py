"""The page of image-based word embeddings."""

from decompose.pages.fragment import render_fragment
from decompose.studies.rates import percent
from decompose.studies.word_report import WordReport

WORDS_PAGE = "words"
_MOST_NEURONS = 20  # lexicographic neurons listed with their words


def words_page(found: WordReport) -> str:
    """The HTML of the page."""
    return render_fragment("words.html", found=found, percent=percent, shown=found.lexicographic[:_MOST_NEURONS])
