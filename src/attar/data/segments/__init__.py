"""Text with the places where words begin, in the formats of corpora and annotation tools."""

from attar.data.segments.cuts import Segmented as Segmented
from attar.data.segments.cuts import check as check
from attar.data.segments.cuts import cuts_of as cuts_of
from attar.data.segments.cuts import tokens_of as tokens_of
from attar.data.segments.formats import FORMATS as FORMATS
from attar.data.segments.formats import convert as convert
from attar.data.segments.formats import read_segments as read_segments
from attar.data.segments.formats import write_segments as write_segments
from attar.data.segments.legal import clusters as clusters
from attar.data.segments.legal import illegal as illegal
from attar.data.segments.legal import legal as legal
from attar.data.segments.streams import Report as Report
